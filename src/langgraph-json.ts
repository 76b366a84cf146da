// The project file langgraph.json: its one schema. In charge of saying, for every documented key, whether it is
// honoured, ignored with a word, or refused by name; must never load a graph or drop a key silently.

import { readFileSync } from 'node:fs'
import { dirname, extname, resolve } from 'node:path'
import type { z } from 'zod'
import {
  type Cors,
  parseEnvFile,
  type RouteGroup,
  type ServerConfig,
  type Variables,
  type WebhookConfig,
} from './config.ts'
import { ConfigError } from './errors.ts'
import {
  type corsSchema,
  type graphSchema,
  ignoredKeys,
  knownKeys,
  nearest,
  projectSchema,
  refusedCheckpointer,
  refusedHttp,
  refusedKeys,
  routeGroups,
} from './langgraph-keys.ts'
import { readWebhooks } from './langgraph-webhooks.ts'

/** A graph as langgraph.json names it; `path` is absolute. */
export interface ProjectGraph {
  graph_id: string
  path: string
  export: string
  description?: string
}

/** A project: langgraph.json, checked, with its env file read. */
export interface Project {
  /** Absolute path of langgraph.json. */
  file: string
  dir: string
  graphs: ProjectGraph[]
  /** What `env` gives to the graphs; the environment of the process wins over it. */
  env: Record<string, string>
  /** Absolute path of the env file, where `env` is one. */
  envFile?: string
  /** What `http.app` names; `path` is absolute. */
  app?: { path: string; export: string }
  cors: Partial<Cors>
  webhooks: Partial<WebhookConfig>
  disabled: RouteGroup[]
  /** How long threads are kept. */
  retention: Partial<Pick<ServerConfig, 'threadTtl' | 'sweepIntervalSeconds' | 'sweepLimit'>>
  /** How items of the store are embedded and how long they last, as written. */
  store: NonNullable<z.output<typeof projectSchema>['store']>
  /** Keys without effect here, and things that look wrong but need not stop the start. */
  ignored: { key: string; reason: string }[]
}

/**
 * Reads a project. `variables` is the environment of the process: names listed in `env` are taken from it.
 * Throws `ConfigError` with one sentence naming file, key and cause.
 */
export function readProject(path: string, variables: Variables): Project {
  const file = resolve(path)
  const dir = dirname(file)
  const wrong = (what: string) => new ConfigError(`${file}: ${what}`)
  const raw = parseFile(file)
  refuse(raw, wrong)
  const stripped = Object.fromEntries(Object.entries(raw).filter(([key]) => !Object.hasOwn(ignoredKeys, key)))
  const parsed = projectSchema.safeParse(stripped)
  if (!parsed.success) throw wrong(sentence(parsed.error.issues[0]))
  const { graphs, env, node_version, webhooks = {}, http = {}, checkpointer, store = {} } = parsed.data
  if (Object.keys(graphs).length === 0)
    throw wrong('graphs names no graph: add one, as in {"agent": "./agent.ts:graph"}.')
  const taken = readEnv(env, dir, variables, wrong)
  return {
    file,
    dir,
    graphs: Object.entries(graphs).map(([id, spec]) => readGraph(id, spec, dir, wrong)),
    env: taken.env,
    ...(typeof env === 'string' && { envFile: resolve(dir, env) }),
    ...(http.app !== undefined && { app: readExport('http.app', http.app, dir, wrong) }),
    cors: readCors(http.cors ?? {}, wrong),
    webhooks: readWebhooks(webhooks, { ...taken.env, ...variables }, wrong),
    disabled: routeGroups.filter((name) => (http as Record<string, unknown>)[`disable_${name}`] === true),
    retention: readRetention(checkpointer?.ttl ?? {}),
    store,
    ignored: [
      ...Object.entries(ignoredKeys)
        .filter(([key]) => Object.hasOwn(raw, key))
        .map(([key, reason]) => ({ key, reason })),
      ...taken.missing.map((key) => ({ key: `env.${key}`, reason: 'it is not set in the environment' })),
      ...nodeWord(node_version),
    ],
  }
}

function parseFile(file: string): Record<string, unknown> {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    const why =
      code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a folder' : `it cannot be read (${code})`
    throw new ConfigError(`${file}: ${why}; give the path of a langgraph.json with --config.`)
  }
  try {
    const value: unknown = JSON.parse(text.replace(/^\uFEFF/, ''))
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  } catch (error) {
    const place = positionOf((error as Error).message, text)
    throw new ConfigError(`${file}${place} is not valid JSON: ${(error as Error).message.replace(/\s+/g, ' ')}.`)
  }
  throw new ConfigError(`${file}: must hold a JSON object with the key graphs.`)
}

// V8 gives a position or, for an unexpected token, only the text around it (ten characters to each side).
function positionOf(message: string, text: string): string {
  const excerpt = /^Unexpected token '(.)', (\.\.\.)?"(.*)"(\.\.\.)? is not valid JSON$/su.exec(message)
  let at = Number(
    /position (\d+)/.exec(message)?.[1] ?? (message.includes('end of JSON input') ? text.length : Number.NaN),
  )
  if (excerpt?.[2]) at = text.indexOf(excerpt[3] as string) + 10
  else if (excerpt?.[4]) at = (excerpt[3] as string).length - 10
  else if (excerpt) at = text.lastIndexOf(excerpt[1] as string)
  if (Number.isNaN(at)) return ''
  const lines = text.slice(0, at).split('\n')
  return `:${lines.length}:${(lines.at(-1) as string).length + 1}`
}

function refuse(raw: Record<string, unknown>, wrong: (what: string) => ConfigError): void {
  const http = (typeof raw.http === 'object' && raw.http) || {}
  const origin = ((http as Record<string, unknown>).cors ?? {}) as Record<string, unknown>
  for (const [key, words] of Object.entries(refusedKeys)) {
    const part = raw[key]
    if (part === undefined) continue
    const inside = typeof part === 'object' && part !== null && !Array.isArray(part) ? Object.keys(part)[0] : undefined
    throw wrong(`${inside === undefined || key === 'ui' ? key : `${key}.${inside}`} ${words}.`)
  }
  for (const [key, words] of Object.entries(refusedHttp)) {
    if (Object.hasOwn(http, key)) throw wrong(`http.${key} ${words}.`)
  }
  const checkpointer = (typeof raw.checkpointer === 'object' && raw.checkpointer) || {}
  for (const [key, words] of Object.entries(refusedCheckpointer)) {
    if (Object.hasOwn(checkpointer, key)) throw wrong(`checkpointer.${key} ${words}.`)
  }
  if (Object.hasOwn(origin, 'allow_origin_regex')) {
    throw wrong('http.cors.allow_origin_regex is not supported: name the origins in http.cors.allow_origins.')
  }
}

function sentence(issue: z.core.$ZodIssue | undefined): string {
  if (!issue) return 'is not a valid project file.'
  const path = issue.path.join('.')
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] as string
    const near = nearest(key, knownKeys(path))
    return `${path === '' ? key : `${path}.${key}`} is not a known key${near ? `: did you mean ${near}?` : '.'}`
  }
  if (path === 'graphs') return 'graphs is missing: name your graphs, as in {"graphs": {"agent": "./agent.ts:graph"}}.'
  return `${path} ${issue.message.startsWith('must') ? issue.message : `is wrong: ${issue.message}`}.`
}

function readGraph(
  id: string,
  spec: z.output<typeof graphSchema>,
  dir: string,
  wrong: (what: string) => ConfigError,
): ProjectGraph {
  const { path: text, description } = typeof spec === 'string' ? { path: spec, description: undefined } : spec
  return {
    graph_id: id,
    ...readExport(`graphs.${id}`, text, dir, wrong),
    ...(description !== undefined && { description }),
  }
}

/** The file and the export that the value of a key names. */
function readExport(
  key: string,
  text: string,
  dir: string,
  wrong: (what: string) => ConfigError,
): { path: string; export: string } {
  const colon = text.lastIndexOf(':')
  // A colon before a slash belongs to the path (a Windows drive).
  const split = colon > 0 && !/[\\/]/.test(text.slice(colon))
  const [path, name] = split ? [text.slice(0, colon), text.slice(colon + 1)] : [text, 'default']
  if (extname(path) === '.py') {
    const what = key === 'http.app' ? 'app' : 'graph'
    throw wrong(
      `${key} is a Python ${what}, which this server cannot run yet: only TypeScript and JavaScript ${what}s are served.`,
    )
  }
  if (!scripts.test(path) || name === '') {
    throw wrong(
      `${key} is ${JSON.stringify(text)}: it must be "./file.ts:export" (.ts .mts .cts .tsx .js .mjs .cjs .jsx).`,
    )
  }
  return { path: resolve(dir, path), export: name }
}

const scripts = /\.([mc]?[tj]s|[tj]sx)$/

function readEnv(
  env: z.output<typeof projectSchema>['env'],
  dir: string,
  variables: Variables,
  wrong: (what: string) => ConfigError,
): { env: Record<string, string>; missing: string[] } {
  if (env === undefined) return { env: {}, missing: [] }
  if (Array.isArray(env)) {
    const missing = env.filter((key) => variables[key] === undefined)
    return {
      env: Object.fromEntries(env.flatMap((key) => (variables[key] === undefined ? [] : [[key, variables[key]]]))),
      missing,
    }
  }
  if (typeof env === 'object')
    return { env: Object.fromEntries(Object.entries(env).map(([key, value]) => [key, String(value)])), missing: [] }
  try {
    return { env: parseEnvFile(readFileSync(resolve(dir, env), 'utf8')), missing: [] }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    throw wrong(
      `env names the file ${env}, which ${code === 'ENOENT' ? 'does not exist: create it, or remove the key' : `cannot be read (${code})`}.`,
    )
  }
}

function readCors(given: z.output<typeof corsSchema>, wrong: (what: string) => ConfigError): Partial<Cors> {
  const everyone = given.allow_origins?.includes('*') ?? given.allow_origins === undefined
  if (given.allow_credentials && everyone) {
    throw wrong(
      'http.cors.allow_credentials needs http.cors.allow_origins to name the origins: browsers refuse credentials with *.',
    )
  }
  return {
    ...(given.allow_origins && { origins: everyone ? '*' : given.allow_origins }),
    ...(given.allow_methods && !given.allow_methods.includes('*') && { methods: given.allow_methods }),
    ...(given.allow_headers && !given.allow_headers.includes('*') && { headers: given.allow_headers }),
    ...(given.expose_headers && { exposeHeaders: given.expose_headers }),
    ...(given.allow_credentials !== undefined && { credentials: given.allow_credentials }),
    ...(given.max_age !== undefined && { maxAgeSeconds: given.max_age }),
  }
}

function readRetention(
  given: NonNullable<NonNullable<z.output<typeof projectSchema>['checkpointer']>['ttl']>,
): Project['retention'] {
  const { strategy = 'delete', default_ttl, sweep_interval_minutes, sweep_limit } = given
  return {
    ...(typeof default_ttl === 'number' && { threadTtl: { strategy, ttl: default_ttl } }),
    ...(sweep_interval_minutes !== undefined && { sweepIntervalSeconds: sweep_interval_minutes * 60 }),
    ...(sweep_limit !== undefined && { sweepLimit: sweep_limit }),
  }
}

function nodeWord(wanted: string | number | undefined): Project['ignored'] {
  const major = process.versions.node.split('.')[0] as string
  if (wanted === undefined || String(wanted).split('.')[0] === major) return []
  return [{ key: 'node_version', reason: `it asks for Node ${wanted} and this is Node ${process.versions.node}` }]
}
