// Which environment variables the server knows: how each is read, which stop the start, which make no difference. Data only.

import { z } from 'zod'
import { parseAesKeys } from './aes-keys.ts'
import { messageOf } from './errors.ts'
import { parseFailpoints } from './failpoints.ts'

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

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

/** The key in a secret of the Standard Webhooks specification; undefined where it is none. */
export function webhookKey(secret: string): Buffer | undefined {
  const [, base64 = ''] = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret) ?? []
  const key = Buffer.from(base64, 'base64')
  return key.length >= 24 && key.length <= 64 ? key : undefined
}

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

const failpoints = z
  .string()
  .transform((text, { addIssue }) => {
    try {
      return parseFailpoints(text)
    } catch (error) {
      addIssue(messageOf(error))
      return z.NEVER
    }
  })
  .optional()

const secrets = z
  .string()
  .transform((text) => text.split(/[\s,]+/).filter((secret) => secret !== ''))
  .refine(
    (list) => list.every((secret) => webhookKey(secret) !== undefined),
    'must be secrets separated by commas, each "whsec_" and then 24 to 64 bytes in base64, as `echo "whsec_$(openssl rand -base64 32)"` makes them',
  )
  .optional()

const aesKeys = z
  .string()
  .transform((text, { addIssue }) => {
    try {
      return parseAesKeys(text)
    } catch (error) {
      addIssue(messageOf(error))
      return z.NEVER
    }
  })
  .optional()

/** How every variable that has an effect is read. */
export const environmentSchema = z.object({
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
  LANGGRAPH_AES_KEY: aesKeys,
  HEDDLE_DURABILITY: z.enum(['sync', 'async', 'exit'], 'must be sync, async or exit').optional(),
  HEDDLE_BODY_LIMIT_BYTES: whole(1024, 1_073_741_824),
  HEDDLE_RUN_EVENTS_MAX_BYTES: whole(1024, 1_099_511_627_776),
  HEDDLE_RUN_EVENTS_MAX_COUNT: whole(1, 1_000_000_000),
  HEDDLE_CHECKPOINT_VALUE_MAX_BYTES: whole(1024, 536_870_912),
  HEDDLE_LEASE_SECONDS: whole(1, 3600),
  HEDDLE_EXECUTOR_MEMORY_MB: whole(64, 1_048_576),
  HEDDLE_EXECUTOR_STALL_SECONDS: whole(0, 86_400),
  HEDDLE_CANCEL_GRACE_SECONDS: whole(1, 3600),
  HEDDLE_WEBHOOK_SECRET: secrets,
  HEDDLE_WEBHOOK_ALLOW_PRIVATE: flag,
  HEDDLE_WEBHOOK_TTL_SECONDS: whole(1, 315_360_000),
  HEDDLE_FAILPOINTS: failpoints,
  CORS_ALLOW_ORIGINS: origins,
  PORT: whole(0, 65_535),
})

/** Every variable that has an effect. */
export const knownVariables: readonly string[] = Object.keys(environmentSchema.shape)

const later = 'is not supported yet: unset it'
const inFile = 'is not read by Heddle: write it into langgraph.json and unset the variable'
const isOn = (value: string): boolean => !['false', '0', 'no', 'off', 'none'].includes(value.toLowerCase())

/** Variables that would change what the server does: for which values each stops the start, and with what words. */
export const refusedVariables: Record<string, { words: string; when?: (value: string) => boolean }> = {
  MOUNT_PREFIX: { words: later },
  LANGGRAPH_AES_JSON_KEYS: { words: 'is not supported: LANGGRAPH_AES_KEY alone says what is encrypted' },
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

/** Variables that make no difference here, with the reason. */
export const ignoredVariables: Record<string, string> = {
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
