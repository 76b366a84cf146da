// What the environment says: every variable the server knows, checked, with its default. In charge of being the only
// reader of process.env and of refusing what would silently not work; must never print a value that may hold a secret.

import { readFileSync } from 'node:fs'
import { parse } from 'dotenv'
import { z } from 'zod'
import type { AesKeys } from './aes-keys.ts'
import { ConfigError } from './errors.ts'
import type { Failpoint } from './failpoints.ts'
import { environmentSchema, ignoredVariables, knownVariables, type logLevels, refusedVariables } from './variables.ts'

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
export type RouteGroup = 'assistants' | 'threads' | 'runs' | 'store' | 'webhooks' | 'meta'

/** Where webhooks may go, and what they carry. */
export interface WebhookConfig {
  /** `whsec_` secrets that each delivery is signed with, all of them; none: it is not signed. */
  secrets: readonly string[]
  /** Addresses of private networks and of this machine may be called. */
  allowPrivate: boolean
  requireHttps: boolean
  /** Hosts, and `*.` with a domain for all below it; absent: every host. */
  allowedDomains?: readonly string[]
  /** Absent: every port. */
  allowedPorts?: readonly number[]
  maxUrlLength: number
  /** Whether a relative URL is taken, as one of the custom app of this server: `none` where there is no app. */
  toApp: 'allowed' | 'forbidden' | 'none'
  /** Sent with each delivery. */
  headers: Readonly<Record<string, string>>
  /** How long a delivery that has ended can still be listed and replayed. */
  ttlSeconds: number
}

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
  /** How much of what one attempt of a run streams is kept and sent. */
  runEventsMaxBytes: number
  runEventsMaxCount: number
  /** The most that one value of a checkpoint may take. */
  checkpointValueMaxBytes: number
  /** What threads get that are made without a time to live; in minutes. Absent: they stay. */
  threadTtl?: { strategy: 'delete' | 'keep_latest'; ttl: number }
  /** How often it is looked for threads whose time is over, and how many are ended at a time. */
  sweepIntervalSeconds: number
  sweepLimit: number
  /** What is stored is encrypted with the first of these; absent: it is not. */
  aesKeys?: AesKeys
  poolSize: number
  /** Heap limit of an executor child in MiB; absent: Node's own. */
  executorMemoryMb?: number
  /** How many executor children share the runs. */
  executors: number
  /** An executor child whose event loop is blocked for longer is ended; 0: never. */
  executorStallSeconds: number
  /** How long a run that is told to stop may take before its executor child is ended. */
  cancelGraceSeconds: number
  webhooks: WebhookConfig
  /** Where tests make this process fail; empty in production. */
  failpoints: readonly Failpoint[]
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
  runEventsMaxBytes: 256 * 1024 * 1024,
  runEventsMaxCount: 1_000_000,
  checkpointValueMaxBytes: 32 * 1024 * 1024,
  sweepIntervalSeconds: 300,
  sweepLimit: 1_000,
  poolSize: 10,
  executors: 1,
  executorStallSeconds: 60,
  cancelGraceSeconds: 10,
  webhooks: {
    secrets: [],
    allowPrivate: false,
    requireHttps: false,
    maxUrlLength: 65_536,
    toApp: 'none',
    headers: {},
    ttlSeconds: 604_800,
  },
  failpoints: [],
  version,
  langsmith: false,
}

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

/**
 * Reads the environment. An empty variable counts as unset. Throws `ConfigError`, naming the variable, for a bad value
 * and for a variable that asks for what this server does not do.
 */
export function readEnvironment(variables: Variables): Environment {
  const set = Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== undefined && value !== ''))
  for (const [key, { words, when }] of Object.entries(refusedVariables)) {
    const value = set[key]
    if (value !== undefined && (when?.(value) ?? true))
      throw new ConfigError(`The environment variable ${key} ${words}.`)
  }
  const parsed = environmentSchema.safeParse(set)
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

function serverConfig(env: z.output<typeof environmentSchema>, set: Variables): ServerConfig {
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
    runEventsMaxBytes: env.HEDDLE_RUN_EVENTS_MAX_BYTES ?? defaults.runEventsMaxBytes,
    runEventsMaxCount: env.HEDDLE_RUN_EVENTS_MAX_COUNT ?? defaults.runEventsMaxCount,
    checkpointValueMaxBytes: env.HEDDLE_CHECKPOINT_VALUE_MAX_BYTES ?? defaults.checkpointValueMaxBytes,
    poolSize: env.LANGGRAPH_POSTGRES_POOL_MAX_SIZE ?? defaults.poolSize,
    failpoints: env.HEDDLE_FAILPOINTS ?? defaults.failpoints,
    executorStallSeconds: env.HEDDLE_EXECUTOR_STALL_SECONDS ?? defaults.executorStallSeconds,
    cancelGraceSeconds: env.HEDDLE_CANCEL_GRACE_SECONDS ?? defaults.cancelGraceSeconds,
    webhooks: {
      ...defaults.webhooks,
      secrets: env.HEDDLE_WEBHOOK_SECRET ?? defaults.webhooks.secrets,
      allowPrivate: env.HEDDLE_WEBHOOK_ALLOW_PRIVATE ?? defaults.webhooks.allowPrivate,
      ttlSeconds: env.HEDDLE_WEBHOOK_TTL_SECONDS ?? defaults.webhooks.ttlSeconds,
    },
    ...(env.LANGGRAPH_AES_KEY !== undefined && { aesKeys: env.LANGGRAPH_AES_KEY }),
    ...(env.HEDDLE_EXECUTOR_MEMORY_MB !== undefined && { executorMemoryMb: env.HEDDLE_EXECUTOR_MEMORY_MB }),
    langsmith: traces(set),
  }
}

const traces = (set: Variables): boolean =>
  ['LANGSMITH_TRACING_V2', 'LANGCHAIN_TRACING_V2', 'LANGSMITH_TRACING', 'LANGCHAIN_TRACING'].some(
    (key) => set[key] === 'true',
  ) && ['LANGSMITH_API_KEY', 'LANGCHAIN_API_KEY', 'LANGSMITH_RUNS_ENDPOINTS'].some((key) => set[key] !== undefined)

function words(set: Variables): Environment['ignored'] {
  const known = Object.entries(ignoredVariables).filter(([key]) => set[key] !== undefined)
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

const own = [
  'DATABASE_URI',
  'POSTGRES_URI',
  'POSTGRES_URI_CUSTOM',
  'REDIS_URI',
  'REDIS_URI_CUSTOM',
  'HEDDLE_WEBHOOK_SECRET',
]

/**
 * What graph code gets as its environment: that of this process over the project's `env`. The addresses of the server's
 * own database and Redis and its secrets are left out unless the project's `env` names them, and its keys always.
 */
export function executorVariables(
  variables: Variables,
  projectEnv: Readonly<Record<string, string>>,
): Record<string, string> {
  const all = Object.entries({ ...projectEnv, ...variables })
  return Object.fromEntries(
    all.filter((entry): entry is [string, string] => {
      const [key, value] = entry
      if (key === 'LANGGRAPH_AES_KEY') return false
      return value !== undefined && (!own.includes(key) || Object.hasOwn(projectEnv, key))
    }),
  )
}
