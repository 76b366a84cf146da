// Module hooks for TypeScript and JSX, run by Node in its loader thread. In charge of compiling (swc, with decorators'
// metadata) and of finding what TypeScript finds: .js for .ts, no extension, tsconfig `paths`. Never touches node_modules.

import { existsSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createRequire, type LoadHook, type ResolveHook } from 'node:module'
import { dirname, extname } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import type { Options } from '@swc/core'
import { createPathsMatcher, getTsconfig, type TsConfigResult } from 'get-tsconfig'

const SOURCE = /\.([cm]?ts|[jt]sx)$/
const EXTENSIONS = ['.ts', '.tsx', '.mts', '.cts', '.js', '.mjs', '.cjs', '.jsx', '.json']
const WRITTEN_AS: Record<string, string[]> = {
  '.js': ['.ts', '.tsx', '.jsx'],
  '.mjs': ['.mts'],
  '.cjs': ['.cts'],
  '.jsx': ['.tsx'],
}

interface Project {
  options: NonNullable<TsConfigResult['config']['compilerOptions']>
  match: (specifier: string) => string[]
}

const projects = new Map<string, Project>()

function projectOf(path: string): Project {
  const folder = dirname(path)
  const known = projects.get(folder)
  if (known) return known
  const found = getTsconfig(path)
  const match = found ? createPathsMatcher(found) : null
  const project = { options: found?.config.compilerOptions ?? {}, match: match ?? (() => []) }
  projects.set(folder, project)
  return project
}

export const resolve: ResolveHook = (specifier, context, next) => {
  const parent = context.parentURL
  if (!parent?.startsWith('file:') || parent.includes('/node_modules/') || specifier.startsWith('node:'))
    return next(specifier, context)
  const from = fileURLToPath(parent)
  const found = /^(\.{0,2}\/|file:)/.test(specifier)
    ? findSource(fileURLToPath(new URL(specifier, parent)))
    : first(projectOf(from).match(specifier), findSource)
  return next(found ? pathToFileURL(found).href + queryOf(specifier) : specifier, context)
}

const queryOf = (specifier: string): string => /^(?:\.{0,2}\/|file:)[^?]*(\?.*)$/.exec(specifier)?.[1] ?? ''

function first<T, R>(items: T[], find: (item: T) => R | undefined): R | undefined {
  for (const item of items) {
    const found = find(item)
    if (found !== undefined) return found
  }
  return undefined
}

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false

/** The file that TypeScript means by a path. */
function findSource(path: string): string | undefined {
  const extension = extname(path)
  const bare = path.slice(0, path.length - extension.length)
  const written = (WRITTEN_AS[extension] ?? []).map((other) => bare + other)
  const candidates = [...written, path, ...EXTENSIONS.map((other) => path + other)]
  const index = EXTENSIONS.map((other) => `${path}/index${other}`)
  return candidates.find(isFile) ?? index.find(isFile)
}

export const load: LoadHook = async (url, context, next) => {
  const { pathname } = new URL(url)
  if (!url.startsWith('file:') || pathname.includes('/node_modules/')) return next(url, context)
  const path = fileURLToPath(url)
  if (pathname.endsWith('.json') && !context.importAttributes?.type)
    return { format: 'module', shortCircuit: true, source: `export default ${await readFile(path, 'utf8')}` }
  if (!SOURCE.test(pathname)) return next(url, context)
  const format = formatOf(path)
  return { format, shortCircuit: true, source: await compile(path, await readFile(path, 'utf8'), format) }
}

// TypeScript is a module unless it says otherwise: an untyped package is no reason to lose top-level await.
function formatOf(path: string): 'module' | 'commonjs' {
  if (path.endsWith('.cts')) return 'commonjs'
  if (path.endsWith('.mts')) return 'module'
  for (let at = dirname(path); ; at = dirname(at)) {
    const manifest = `${at}/package.json`
    if (existsSync(manifest))
      return (createRequire(manifest)(manifest) as { type?: string }).type === 'commonjs' ? 'commonjs' : 'module'
    if (dirname(at) === at) return 'module'
  }
}

async function compile(path: string, source: string, format: 'module' | 'commonjs'): Promise<string> {
  const { transform } = await import('@swc/core')
  try {
    const { code } = await transform(source, optionsOf(path, format))
    return format === 'module' ? withRequire(code) : code
  } catch (error) {
    throw syntaxError(path, error)
  }
}

function optionsOf(path: string, format: 'module' | 'commonjs'): Options {
  const { options } = projectOf(path)
  const legacyDecorator = options.experimentalDecorators === true
  return {
    filename: path,
    swcrc: false,
    configFile: false,
    sourceMaps: 'inline',
    isModule: true,
    module: { type: format === 'module' ? 'es6' : 'commonjs' },
    jsc: {
      target: 'es2022',
      keepClassNames: true,
      parser: path.endsWith('.jsx')
        ? { syntax: 'ecmascript', jsx: true, decorators: true }
        : { syntax: 'typescript', tsx: path.endsWith('x'), decorators: true },
      transform: {
        legacyDecorator,
        decoratorMetadata: options.emitDecoratorMetadata === true,
        decoratorVersion: legacyDecorator ? '2021-12' : '2022-03',
        useDefineForClassFields: options.useDefineForClassFields ?? !legacyDecorator,
        verbatimModuleSyntax: options.verbatimModuleSyntax === true,
        react: {
          runtime: options.jsx?.startsWith('react-jsx')
            ? 'automatic'
            : options.jsx === 'react'
              ? 'classic'
              : 'automatic',
          ...(options.jsxImportSource ? { importSource: options.jsxImportSource } : {}),
        },
      },
      experimental: { keepImportAttributes: true },
    },
  }
}

// Code that was written for CommonJS output may use its names; in a module they have to be made.
function withRequire(code: string): string {
  const uses = (name: string) => new RegExp(`(?<![.\\w$])${name}\\b`).test(code) && !declares(code, name)
  const made = [
    uses('require') ? `const require = process.getBuiltinModule('module').createRequire(import.meta.url);` : '',
    uses('__filename') ? 'const __filename = import.meta.filename;' : '',
    uses('__dirname') ? 'const __dirname = import.meta.dirname;' : '',
  ].join('')
  return made + code
}
const declares = (code: string, name: string): boolean =>
  new RegExp(`(?:const|let|var|function|import)\\s+(?:\\{[^}]*)?${name}\\b`).test(code)

// swc prints a picture; of that, the sentence and the place.
function syntaxError(path: string, error: unknown): Error {
  const text = stripVTControlCharacters(error instanceof Error ? error.message : String(error))
  const sentence = /^\s*(?:x|×)\s*(.+)$/m.exec(text)?.[1] ?? text.split('\n')[0]
  const line = /\[[^\]]*?:(\d+):\d+\]/.exec(text)?.[1]
  const made = new SyntaxError(sentence)
  made.stack = `SyntaxError: ${sentence}\n    at ${path}:${line ?? 1}`
  return made
}
