// What a project's file exports, and what is wrong with it. In charge of finding an export and of saying where in the project
// loading failed; must never import user code itself.

import { relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { messageOf } from '../errors.ts'

/** What is wrong with an export, as the rest of a sentence. */
export class Refusal extends Error {}

/** The export of a loaded module. Throws `Refusal` where there is none of that name. */
export function exportOf(module: Record<string, unknown>, name: string): unknown {
  const value = found(module, name)
  if (value !== undefined) return value
  const names = Object.keys(module).filter((key) => key !== 'default' && key !== 'module.exports')
  throw new Refusal(
    `has no export "${name}"${names.length ? `; it exports ${names.map((key) => `"${key}"`).join(', ')}` : ''}`,
  )
}

// What CommonJS exports is also, and sometimes only, found on `default`.
function found(module: Record<string, unknown>, name: string): unknown {
  if (module[name] !== undefined && !(name === 'default' && isNamespace(module.default))) return module[name]
  const inner = module.default
  return typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>)[name] : undefined
}
const isNamespace = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && (value as { __esModule?: unknown }).__esModule === true

/** One sentence on why loading `what` from the file at `path` failed, with the place. */
export function explain(error: unknown, what: string, path: string | undefined, projectDir: string | null): string {
  const short = (file: string) => (projectDir ? relative(projectDir, file) || file : file)
  const file = path === undefined ? '' : ` (${short(path)})`
  if (error instanceof Refusal) return `${what}${file} ${error.message}.`
  const where = path === undefined ? undefined : placeOf(error, path)
  const message = firstLine(messageOf(error)).replace(/\.$/, '')
  return `${what} could not be loaded${where ? ` from ${short(where)}` : file}: ${message}.`
}

const firstLine = (text: string): string => text.trim().split('\n')[0]?.slice(0, 500) ?? ''

// The first frame of the stack in the project's own files: "…/file.ts:12:3" (not "node:internal/…").
function placeOf(error: unknown, path: string): string {
  const stack = error instanceof Error ? (error.stack ?? '') : ''
  for (const match of stack.matchAll(/(?<=[\s(]|file:\/\/)(\/[^\s()?]+?)(?:\?[^\s():]*)?:(\d+)(?::\d+)?/g)) {
    const [, file, line] = match
    if (file && !file.includes('/node_modules/') && !isOwn(file)) return `${file}:${line}`
  }
  return path
}
const isOwn = (file: string): boolean => pathToFileURL(file).href.startsWith(new URL('.', import.meta.url).href)
