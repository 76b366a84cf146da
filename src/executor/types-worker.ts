// A worker thread that reads the types of a graph's TypeScript file. In charge of the compiler: nothing else loads it, and it
// never runs on the thread that runs graphs. Reads files only; the module that asks for the types exists in memory.

import { dirname, join } from 'node:path'
import { parentPort } from 'node:worker_threads'
import ts from 'typescript'
import { hashOf } from './types-hash.ts'
import { type JsonSchema, schemaOf } from './types-json.ts'

/** What is asked: the exported name of a file. */
export interface TypesQuestion {
  id: number
  path: string
  export: string
}

/** What is answered. `files` are the local files that the answer depends on, with the hash of what was read. */
export interface TypesAnswer {
  id: number
  schemas?: Partial<Record<TypeName, JsonSchema>>
  files?: Record<string, string>
  error?: string
}

export const TYPE_NAMES = ['State', 'Input', 'Output', 'Context'] as const
export type TypeName = (typeof TYPE_NAMES)[number]

// The library's and the packages' files are parsed once per worker: the second graph costs a tenth of the first.
const parsed = new Map<string, ts.SourceFile>()

parentPort?.on('message', ({ id, ...question }: TypesQuestion) => {
  let answer: TypesAnswer
  try {
    answer = { id, ...read(question) }
  } catch (error) {
    answer = { id, error: error instanceof Error ? error.message : String(error) }
  }
  parentPort?.postMessage(answer)
})

function read(question: Omit<TypesQuestion, 'id'>): Omit<TypesAnswer, 'id'> {
  const config = ts.findConfigFile(dirname(question.path), ts.sys.fileExists)
  const options = optionsOf(config)
  const asking = join(dirname(question.path), '__heddle_types__.mts')
  const host = hostOf(options, asking, moduleText(question))
  const program = ts.createProgram([asking], options, host)
  const checker = program.getTypeChecker()
  const module = program.getSourceFile(asking)
  if (module === undefined) throw new Error(`${question.path} could not be read`)
  if (program.getSourceFile(question.path) === undefined) throw new Error(`${question.path} could not be read`)
  return { schemas: schemasIn(module, checker), files: filesOf(program, module, config) }
}

function schemasIn(module: ts.SourceFile, checker: ts.TypeChecker): TypesAnswer['schemas'] {
  const schemas: TypesAnswer['schemas'] = {}
  for (const statement of module.statements) {
    if (!ts.isTypeAliasDeclaration(statement)) continue
    const name = statement.name.text as TypeName
    if (!TYPE_NAMES.includes(name)) continue
    const schema = schemaOf(checker.getTypeAtLocation(statement.name), checker)
    // A type without a single property says nothing: the default of a graph without a context is such a one.
    if (schema && Object.keys((schema.properties as object | undefined) ?? { some: 1 }).length > 0)
      schemas[name] = schema
  }
  return schemas
}

function filesOf(program: ts.Program, module: ts.SourceFile, config: string | undefined): Record<string, string> {
  const files: Record<string, string> = {}
  const read = (path: string | undefined) => {
    if (path) files[path] = hashOf(ts.sys.readFile(path) ?? '')
  }
  read(config)
  const langgraph = /^.*[\\/]node_modules[\\/]@langchain[\\/]langgraph[\\/]/
  const packages = program.getSourceFiles().map((file) => langgraph.exec(file.fileName)?.[0])
  for (const folder of new Set(packages)) read(folder && `${folder}package.json`)
  for (const file of program.getSourceFiles())
    if (file !== module && !isForeign(file.fileName)) files[file.fileName] = hashOf(file.text)
  return files
}

function optionsOf(config: string | undefined): ts.CompilerOptions {
  const host = { ...ts.sys, readDirectory: () => [] }
  const given = config
    ? ts.parseJsonConfigFileContent(ts.readConfigFile(config, ts.sys.readFile).config ?? {}, host, dirname(config))
        .options
    : { strict: true }
  const nodeLike =
    given.moduleResolution === ts.ModuleResolutionKind.NodeNext ||
    given.moduleResolution === ts.ModuleResolutionKind.Node16
  return {
    ...given,
    ...(nodeLike ? {} : { module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler }),
    target: ts.ScriptTarget.ES2022,
    // The browser's and Node's types are half of the reading time and of no use in a state, but for the two declared below.
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    types: [],
    jsx: given.jsx ?? ts.JsxEmit.Preserve,
    noEmit: true,
    declaration: false,
    composite: false,
    incremental: false,
    allowImportingTsExtensions: true,
    skipLibCheck: true,
    skipDefaultLibCheck: true,
  }
}

function hostOf(options: ts.CompilerOptions, asking: string, text: string): ts.CompilerHost {
  const host = ts.createCompilerHost(options)
  const parse = host.getSourceFile.bind(host)
  return {
    ...host,
    fileExists: (file) => file === asking || host.fileExists(file),
    readFile: (file) => (file === asking ? text : host.readFile(file)),
    getSourceFile(file, target, ...rest) {
      if (file === asking) return ts.createSourceFile(file, text, target)
      if (!isForeign(file)) return parse(file, target, ...rest)
      const known = parsed.get(file)
      if (known) return known
      const fresh = parse(file, target, ...rest)
      if (fresh) parsed.set(file, fresh)
      return fresh
    },
  }
}

const isForeign = (file: string): boolean => /[\\/]node_modules[\\/]/.test(file)

// What is exported may be a graph, a builder, a promise of one, a factory of one, or an agent that holds one.
const moduleText = ({ path, export: name }: Omit<TypesQuestion, 'id'>): string => `
type Exported = (typeof import(${JSON.stringify(path)}))[${JSON.stringify(name)}]
type Made = Awaited<Exported extends (...args: never[]) => infer R ? R : Exported>
type Graph = Made extends { '~InputType': unknown } ? Made
  : Made extends { compile(...args: never[]): infer G } ? G : Made extends { graph: infer G } ? G : never
type Options = Graph extends { invoke(input: never, options?: infer O): unknown } ? NonNullable<O> : never
export type State = Graph extends { '~RunOutput': infer T } ? T : Output
export type Input = Graph extends { '~InputType': infer T } ? T : never
export type Output = Graph extends { '~OutputType': infer T } ? Awaited<T> : never
export type Context = Options extends { context?: infer T } ? T : never
declare global {
  interface URL { href: string }
  interface Buffer extends Uint8Array {}
}
`
