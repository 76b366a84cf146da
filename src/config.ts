// What the environment says: every variable the server knows, checked, with its default. In charge of being the only
// reader of process.env and of refusing what would silently not work; must never print a value that may hold a secret.

import { readFileSync } from 'node:fs'
import { parse } from 'dotenv'
import { z } from 'zod'
import { ConfigError } from './errors.ts'

/** Environment variables by name. */
export type Variables = Readonly<Record<string, string | undefined>>

/** Which browser origins may call the server, and with what. */
export interface Cors {
  origins: '*' | readonly string[]
  /** Absent: every method the API has. */
  methods?: readonly string[]
  /** Absent: whatever the browser asks for. */
  headers?: readonly string[]
  exposeHeaders: readonly string[]
  credentials: boolean
  maxAgeSeconds?: number
}

/** Groups of routes that langgraph.json can switch off. */
export type RouteGroup = 'assistants' | 'threads' | 'runs' | 'store' | 'meta'

/** How a server behaves, whatever its database and bus are. Times are seconds, sizes bytes. */
export interface ServerConfig {
  /** Reload, /internal/truncate, and graphs that fail to load do not stop the start. */
  dev: boolean
  bodyLimitBytes: number
  cors: Cors
  disabled: readonly RouteGroup[]
  /** For runs that do not say. */
  durability: 'sync' | 'async' | 'exit'
  jobsPerWorker: number
  /** A run whose worker died this many times becomes an error. */
  maxAttempts: number
  runTimeoutSeconds: number
  leaseSeconds: number
  shutdownGraceSeconds: number
  /** How long the events of an ended run can still be read. */
  eventTtlSeconds: number
  poolSize: number
  /** Heap limit of an executor child in MiB; absent: Node's own. */
  executorMemoryMb?: number
  version: string
  /** True when traces go to LangSmith. */
  langsmith: boolean
}

/** The version in package.json. */
export const version: string = z
  .object({ version: z.string() })
  .parse(JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))).version

/** The defaults of everything; `readEnvironment({}).server` is the same. */
export const defaultServerConfig: ServerConfig = {
  dev: false,
  bodyLimitBytes: 10 * 1024 * 1024,
  cors: {
    origins: '*',
    exposeHeaders: ['content-location', 'location', 'x-pagination-total', 'x-pagination-next'],
    credentials: false,
  },
  disabled: [],
  durability: 'async',
  jobsPerWorker: 10,
  maxAttempts: 3,
  runTimeoutSeconds: 86_400,
  leaseSeconds: 15,
  shutdownGraceSeconds: 180,
  eventTtlSeconds: 86_400,
  poolSize: 10,
  version,
  langsmith: false,
}

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

/** The environment, checked. */
export interface Environment {
  /** The Postgres to use and the variable that named it. */
  database?: { uri: string; key: string }
  redis?: { uri: string; prefix: string; cluster: boolean }
  port?: number
  log: { level: (typeof logLevels)[number]; json: boolean; color: boolean }
  server: ServerConfig
  /** Variables that are set, known, and have no effect here, with the reason. */
  ignored: { key: string; reason: string }[]
}

const whole = (least: number, most: number) =>
  z
    .string()
    .regex(/^\d+$/, `must be a whole number from ${least} to ${most}`)
    .transform(Number)
    .refine((value) => value >= least && value <= most, `must be a whole number from ${least} to ${most}`)
    .optional()

const flag = z
  .string()
  .toLowerCase()
  .pipe(z.enum(['true', 'false', '1', '0', 'yes', 'no', 'on', 'off'], 'must be true or false'))
  .transform((value) => ['true', '1', 'yes', 'on'].includes(value))
  .optional()

const address = (schemes: readonly string[]) =>
  z
    .string()
    .refine(
      (value) => schemes.some((scheme) => value.startsWith(`${scheme}://`)) && URL.canParse(value),
      `must be an address that begins with ${schemes.map((scheme) => `${scheme}://`).join(' or ')}`,
    )
    .optional()

const postgres = address(['postgres', 'postgresql'])
const redis = address(['redis', 'rediss'])

const level = z
  .string()
  .toLowerCase()
  .transform((value) => ({ warning: 'warn', critical: 'fatal' })[value] ?? value)
  .pipe(z.enum(logLevels, `must be one of ${logLevels.join(', ')}`))
  .optional()

const origins = z
  .string()
  .transform((text) => text.split(',').map((origin) => origin.trim()))
  .refine((list) => list.every((origin) => origin !== ''), 'must be * or origins separated by commas')
  .transform((list) => (list.includes('*') ? ('*' as const) : list))
  .optional()

const schema = z.object({
  DATABASE_URI: postgres,
  POSTGRES_URI_CUSTOM: postgres,
  POSTGRES_URI: postgres,
  LANGGRAPH_POSTGRES_POOL_MAX_SIZE: whole(1, 1000),
  REDIS_URI_CUSTOM: redis,
  REDIS_URI: redis,
  REDIS_KEY_PREFIX: z.string().optional(),
  REDIS_CLUSTER: flag,
  N_JOBS_PER_WORKER: whole(1, 10_000),
  BG_JOB_TIMEOUT_SECS: whole(1, 31_536_000),
  BG_JOB_MAX_RETRIES: whole(1, 100),
  BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: whole(0, 3600),
  RESUMABLE_STREAM_TTL_SECONDS: whole(1, 31_536_000),
  LOG_LEVEL: level,
  LOG_JSON: flag,
  LOG_COLOR: flag,
  NO_COLOR: z.string().optional(),
  HEDDLE_DURABILITY: z.enum(['sync', 'async', 'exit'], 'must be sync, async or exit').optional(),
  HEDDLE_BODY_LIMIT_BYTES: whole(1024, 1_073_741_824),
  HEDDLE_LEASE_SECONDS: whole(1, 3600),
  HEDDLE_EXECUTOR_MEMORY_MB: whole(64, 1_048_576),
  CORS_ALLOW_ORIGINS: origins,
  PORT: whole(0, 65_535),
})

/** Every variable that `readEnvironment` takes up. */
export const knownVariables: readonly string[] = Object.keys(schema.shape)

const later = 'is not supported yet: unset it'
const inFile = 'is not read by Heddle: write it into langgraph.json and unset the variable'
const isOn = (value: string): boolean => !['false', '0', 'no', 'off', 'none'].includes(value.toLowerCase())

// Variables that would change what the server does. Each says for which values it stops the start, and with what words.
const refused: Record<string, { words: string; when?: (value: string) => boolean }> = {
  MOUNT_PREFIX: { words: later },
  LANGGRAPH_AES_KEY: { words: later },
  LANGGRAPH_AES_JSON_KEYS: { words: later },
  LANGGRAPH_AUTH_TYPE: { words: 'is not supported yet: only noop is', when: (value) => value !== 'noop' },
  LANGGRAPH_CONFIG: { words: 'is not supported yet: give assistants their config over the API' },
  LANGGRAPH_NODE_LOADER: { words: later },
  LANGSERVE_GRAPHS: { words: inFile },
  LANGGRAPH_STORE: { words: inFile },
  LANGGRAPH_AUTH: { words: inFile },
  LANGGRAPH_ENCRYPTION: { words: inFile },
  LANGGRAPH_HTTP: { words: inFile },
  LANGGRAPH_WEBHOOKS: { words: inFile },
  LANGGRAPH_CHECKPOINTER: { words: inFile },
  LANGGRAPH_UI: { words: inFile },
  LANGGRAPH_UI_CONFIG: { words: inFile },
  LS_DEFAULT_CHECKPOINTER_BACKEND: {
    words: 'is not supported: checkpoints are kept in Postgres',
    when: (value) => value !== 'default' && value !== 'postgres',
  },
  LS_MONGODB_URI: { words: 'is not supported: checkpoints are kept in Postgres' },
  LS_CHECKPOINT_DELETE: { words: later },
  LSD_CHECKPOINT_DELETE: { words: later },
  LS_RATE_LIMITS: { words: later },
  AGENT_POSTGRES_IAM_AUTH_PROVIDER: { words: later },
  AGENT_REDIS_IAM_AUTH_PROVIDER: { words: later },
  LSD_PROM_METRICS_ENABLED: { words: later, when: isOn },
  EXPOSE_INTERNAL_METRICS_PROMETHEUS: { words: later, when: isOn },
  SELF_HOSTED_LOGS_ENABLED: { words: later, when: isOn },
  LS_APM_OTEL_ENABLED: { words: later, when: isOn },
  LS_OTEL_INSTRUMENT: { words: later, when: isOn },
}

const ignored: Record<string, string> = {
  LANGGRAPH_CLOUD_LICENSE_KEY: 'Heddle needs no licence key',
  LANGSMITH_CONTROL_PLANE_API_KEY: 'Heddle needs no control plane',
  BG_JOB_ISOLATED_LOOPS: 'graphs always run in their own process',
  REDIS_MAX_CONNECTIONS: 'a process holds two Redis connections',
  PREFER_GRPC_CHECKPOINTER: 'there is one checkpointer',
  LSD_RUN_QUEUE_TRACE_LOG: 'LOG_LEVEL=debug shows the queue',
  LANGGRAPH_SCHEMA_RESOLVE_TIMEOUT_MS: 'schemas never hold up a request',
  A2A_ALLOWED_TOOL_CALL_RESULTS: 'A2A is not served',
  A2A_A2UI_ENABLED: 'A2A is not served',
  A2A_A2UI_TOOL_CALL_RESULTS: 'A2A is not served',
}

/** Variables that stop the start by name when they are set (some only with certain values). */
export const refusedVariables: readonly string[] = Object.keys(refused)

/**
 * Reads the environment. An empty variable counts as unset. Throws `ConfigError`, naming the variable, for a bad value
 * and for a variable that asks for what this server does not do.
 */
export function readEnvironment(variables: Variables): Environment {
  const set = Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== undefined && value !== ''))
  for (const [key, { words, when }] of Object.entries(refused)) {
    const value = set[key]
    if (value !== undefined && (when?.(value) ?? true))
      throw new ConfigError(`The environment variable ${key} ${words}.`)
  }
  const parsed = schema.safeParse(set)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw new ConfigError(`The environment variable ${issue?.path.join('.')} ${issue?.message}.`)
  }
  const env = parsed.data
  const redisUri = env.REDIS_URI_CUSTOM ?? env.REDIS_URI
  const database = (['DATABASE_URI', 'POSTGRES_URI_CUSTOM', 'POSTGRES_URI'] as const)
    .map((key) => ({ key, uri: env[key] }))
    .find((entry): entry is { key: typeof entry.key; uri: string } => entry.uri !== undefined)
  return {
    ...(database && { database }),
    ...(redisUri !== undefined && {
      redis: { uri: redisUri, prefix: env.REDIS_KEY_PREFIX ?? '', cluster: env.REDIS_CLUSTER ?? false },
    }),
    ...(env.PORT !== undefined && { port: env.PORT }),
    log: {
      level: env.LOG_LEVEL ?? 'info',
      json: env.LOG_JSON ?? false,
      color: env.LOG_COLOR ?? env.NO_COLOR === undefined,
    },
    server: serverConfig(env, set),
    ignored: words(set),
  }
}

function serverConfig(env: z.output<typeof schema>, set: Variables): ServerConfig {
  const defaults = defaultServerConfig
  return {
    ...defaults,
    bodyLimitBytes: env.HEDDLE_BODY_LIMIT_BYTES ?? defaults.bodyLimitBytes,
    cors: { ...defaults.cors, origins: env.CORS_ALLOW_ORIGINS ?? defaults.cors.origins },
    durability: env.HEDDLE_DURABILITY ?? defaults.durability,
    jobsPerWorker: env.N_JOBS_PER_WORKER ?? defaults.jobsPerWorker,
    maxAttempts: env.BG_JOB_MAX_RETRIES ?? defaults.maxAttempts,
    runTimeoutSeconds: env.BG_JOB_TIMEOUT_SECS ?? defaults.runTimeoutSeconds,
    leaseSeconds: env.HEDDLE_LEASE_SECONDS ?? defaults.leaseSeconds,
    shutdownGraceSeconds: env.BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS ?? defaults.shutdownGraceSeconds,
    eventTtlSeconds: env.RESUMABLE_STREAM_TTL_SECONDS ?? defaults.eventTtlSeconds,
    poolSize: env.LANGGRAPH_POSTGRES_POOL_MAX_SIZE ?? defaults.poolSize,
    ...(env.HEDDLE_EXECUTOR_MEMORY_MB !== undefined && { executorMemoryMb: env.HEDDLE_EXECUTOR_MEMORY_MB }),
    langsmith: traces(set),
  }
}

const traces = (set: Variables): boolean =>
  ['LANGSMITH_TRACING_V2', 'LANGCHAIN_TRACING_V2', 'LANGSMITH_TRACING', 'LANGCHAIN_TRACING'].some(
    (key) => set[key] === 'true',
  ) && ['LANGSMITH_API_KEY', 'LANGCHAIN_API_KEY', 'LANGSMITH_RUNS_ENDPOINTS'].some((key) => set[key] !== undefined)

function words(set: Variables): Environment['ignored'] {
  const known = Object.entries(ignored).filter(([key]) => set[key] !== undefined)
  const unknown = Object.keys(set).filter((key) => key.startsWith('HEDDLE_') && !knownVariables.includes(key))
  return [
    ...known.map(([key, reason]) => ({ key, reason })),
    ...unknown.map((key) => ({ key, reason: 'Heddle knows no such variable' })),
  ]
}

/** The environment of this process. */
export const processVariables = (): Variables => ({ ...process.env })

/** The variables in the text of an env file (`KEY=value` lines, quotes and comments as dotenv has them). */
export const parseEnvFile = (text: string): Record<string, string> => parse(text)

const connections = ['DATABASE_URI', 'POSTGRES_URI', 'POSTGRES_URI_CUSTOM', 'REDIS_URI', 'REDIS_URI_CUSTOM']

/**
 * What graph code gets as its environment: that of this process over the project's `env`. The addresses of the server's
 * own database and Redis are left out unless the project's `env` names them.
 */
export function executorVariables(
  variables: Variables,
  projectEnv: Readonly<Record<string, string>>,
): Record<string, string> {
  const all = Object.entries({ ...projectEnv, ...variables })
  return Object.fromEntries(
    all.filter((entry): entry is [string, string] => {
      const [key, value] = entry
      return value !== undefined && (!connections.includes(key) || Object.hasOwn(projectEnv, key))
    }),
  )
}
