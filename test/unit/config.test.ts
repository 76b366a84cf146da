import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { defaultServerConfig, executorVariables, parseEnvFile, readEnvironment } from '../../src/config.ts'
import { ConfigError } from '../../src/errors.ts'
import { ignoredVariables, knownVariables, refusedVariables } from '../../src/variables.ts'

const refusal = (variables: Record<string, string>): string => {
  try {
    readEnvironment(variables)
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError)
    return (error as Error).message
  }
  throw new Error(`${JSON.stringify(variables)} was accepted`)
}

test('an empty environment gives the defaults', () => {
  expect(readEnvironment({})).toEqual({
    log: { level: 'info', json: false, color: true },
    server: defaultServerConfig,
    ignored: [],
  })
  expect(readEnvironment({}).server).toMatchObject({
    jobsPerWorker: 10,
    maxAttempts: 3,
    runTimeoutSeconds: 86_400,
    shutdownGraceSeconds: 180,
    eventTtlSeconds: 86_400,
    poolSize: 10,
    durability: 'async',
    bodyLimitBytes: 10_485_760,
    leaseSeconds: 15,
  })
})

test('every variable of the server is read', () => {
  const env = readEnvironment({
    POSTGRES_URI: 'postgres://user:secret@db/heddle',
    REDIS_URI: 'rediss://cache:6380/1',
    REDIS_KEY_PREFIX: 'h:',
    REDIS_CLUSTER: 'True',
    N_JOBS_PER_WORKER: '4',
    BG_JOB_TIMEOUT_SECS: '60',
    BG_JOB_MAX_RETRIES: '5',
    BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: '0',
    RESUMABLE_STREAM_TTL_SECONDS: '120',
    LANGGRAPH_POSTGRES_POOL_MAX_SIZE: '7',
    LOG_LEVEL: 'WARNING',
    LOG_JSON: 'true',
    LOG_COLOR: 'false',
    HEDDLE_DURABILITY: 'sync',
    HEDDLE_BODY_LIMIT_BYTES: '2048',
    HEDDLE_LEASE_SECONDS: '3',
    HEDDLE_EXECUTOR_MEMORY_MB: '512',
    HEDDLE_WEBHOOK_SECRET: `whsec_${'a'.repeat(32)}, whsec_${'b'.repeat(43)}=`,
    HEDDLE_WEBHOOK_ALLOW_PRIVATE: 'true',
    HEDDLE_WEBHOOK_TTL_SECONDS: '60',
    CORS_ALLOW_ORIGINS: 'https://a.example, https://b.example',
    PORT: '8000',
    LANGSMITH_TRACING: 'true',
    LANGSMITH_API_KEY: 'key',
  })
  expect(env).toEqual({
    database: { uri: 'postgres://user:secret@db/heddle', key: 'POSTGRES_URI' },
    redis: { uri: 'rediss://cache:6380/1', prefix: 'h:', cluster: true },
    port: 8000,
    log: { level: 'warn', json: true, color: false },
    server: {
      ...defaultServerConfig,
      jobsPerWorker: 4,
      runTimeoutSeconds: 60,
      maxAttempts: 5,
      shutdownGraceSeconds: 0,
      eventTtlSeconds: 120,
      poolSize: 7,
      durability: 'sync',
      bodyLimitBytes: 2048,
      leaseSeconds: 3,
      executorMemoryMb: 512,
      webhooks: {
        ...defaultServerConfig.webhooks,
        secrets: [`whsec_${'a'.repeat(32)}`, `whsec_${'b'.repeat(43)}=`],
        allowPrivate: true,
        ttlSeconds: 60,
      },
      cors: { ...defaultServerConfig.cors, origins: ['https://a.example', 'https://b.example'] },
      langsmith: true,
    },
    ignored: [],
  })
})

test('DATABASE_URI wins over POSTGRES_URI_CUSTOM, which wins over POSTGRES_URI', () => {
  const all = { POSTGRES_URI: 'postgres://c', POSTGRES_URI_CUSTOM: 'postgres://b', DATABASE_URI: 'postgresql://a' }
  expect(readEnvironment(all).database?.key).toBe('DATABASE_URI')
  expect(readEnvironment({ ...all, DATABASE_URI: '' }).database?.key).toBe('POSTGRES_URI_CUSTOM')
  expect(readEnvironment({ REDIS_URI: 'redis://a', REDIS_URI_CUSTOM: 'redis://b' }).redis?.uri).toBe('redis://b')
})

test.each([
  ['N_JOBS_PER_WORKER', '0'],
  ['N_JOBS_PER_WORKER', '-1'],
  ['N_JOBS_PER_WORKER', 'ten'],
  ['BG_JOB_TIMEOUT_SECS', '1.5'],
  ['BG_JOB_MAX_RETRIES', '0'],
  ['BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS', '3601'],
  ['RESUMABLE_STREAM_TTL_SECONDS', '0'],
  ['LANGGRAPH_POSTGRES_POOL_MAX_SIZE', '0'],
  ['LOG_LEVEL', 'loud'],
  ['LOG_JSON', 'maybe'],
  ['LOG_COLOR', 'red'],
  ['REDIS_CLUSTER', 'two'],
  ['HEDDLE_DURABILITY', 'never'],
  ['HEDDLE_BODY_LIMIT_BYTES', '1e6'],
  ['HEDDLE_LEASE_SECONDS', '0'],
  ['HEDDLE_EXECUTOR_MEMORY_MB', '1'],
  ['HEDDLE_WEBHOOK_SECRET', 'secret'],
  ['HEDDLE_WEBHOOK_SECRET', `whsec_${'a'.repeat(30)}`],
  ['HEDDLE_WEBHOOK_SECRET', `whsec_${'a'.repeat(32)},whsec_`],
  ['HEDDLE_WEBHOOK_ALLOW_PRIVATE', 'maybe'],
  ['HEDDLE_WEBHOOK_TTL_SECONDS', '0'],
  ['CORS_ALLOW_ORIGINS', 'https://a.example,,'],
  ['PORT', '65536'],
  ['DATABASE_URI', 'mysql://db'],
  ['REDIS_URI', 'localhost:6379'],
])('a bad value of %s (%s) is refused by name', (key, value) => {
  expect(refusal({ [key]: value })).toMatch(new RegExp(`^The environment variable ${key} must be `))
})

test('a bad address is refused without printing it', () => {
  expect(refusal({ DATABASE_URI: 'mysql://user:hunter2@db' })).not.toContain('hunter2')
})

test.each(Object.keys(refusedVariables))('%s asks for what the server does not do and is refused by name', (key) => {
  expect(refusal({ [key]: 'custom' })).toContain(`The environment variable ${key} is not `)
})

test('variables that ask for what is so anyway are accepted', () => {
  expect(
    readEnvironment({
      LANGGRAPH_AUTH_TYPE: 'noop',
      LS_DEFAULT_CHECKPOINTER_BACKEND: 'default',
      LSD_PROM_METRICS_ENABLED: 'false',
      MOUNT_PREFIX: '',
    }).ignored,
  ).toEqual([])
})

test('a licence key, a control plane key and a mistyped HEDDLE_ variable are ignored with a word', () => {
  const { ignored } = readEnvironment({
    LANGGRAPH_CLOUD_LICENSE_KEY: 'x',
    LANGSMITH_CONTROL_PLANE_API_KEY: 'y',
    HEDDLE_DURABILTY: 'sync',
  })
  expect(ignored).toEqual([
    { key: 'LANGGRAPH_CLOUD_LICENSE_KEY', reason: 'Heddle needs no licence key' },
    { key: 'LANGSMITH_CONTROL_PLANE_API_KEY', reason: 'Heddle needs no control plane' },
    { key: 'HEDDLE_DURABILTY', reason: 'Heddle knows no such variable' },
  ])
})

test('graphs get the environment over the project env, without the addresses of the server', () => {
  const variables = { PATH: '/bin', A: 'process', DATABASE_URI: 'postgres://x', REDIS_URI: 'redis://x' }
  expect(executorVariables(variables, { A: 'file', B: 'file' })).toEqual({ PATH: '/bin', A: 'process', B: 'file' })
  expect(executorVariables({ HEDDLE_WEBHOOK_SECRET: 'whsec_x' }, {})).toEqual({})
  expect(executorVariables(variables, { DATABASE_URI: 'postgres://x' })).toHaveProperty('DATABASE_URI', 'postgres://x')
})

test('an env file may hold quotes, comments and exports', () => {
  expect(parseEnvFile('# keys\nexport A=1\nB="two words" # why\n\nC=\'#3\'\n')).toEqual({
    A: '1',
    B: 'two words',
    C: '#3',
  })
})

test.each([...knownVariables, ...Object.keys(refusedVariables), ...Object.keys(ignoredVariables)])(
  '%s is in docs/configuration.md',
  (key) => {
    const page = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8')
    expect(key.startsWith('A2A_') || page.includes(`\`${key}\``)).toBe(true)
  },
)
