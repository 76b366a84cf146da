// The three ways Heddle stands: embedded, on Postgres and Redis, on Postgres alone. In charge of running one suite on each of
// them against servers made by `createHeddle`, and of failing a suite that leaves anything open.

import { randomUUID } from 'node:crypto'
import { Client } from '@langchain/langgraph-sdk'
import { createClient } from 'redis'
import { afterAll, beforeAll, describe, expect, onTestFinished, TestRunner } from 'vitest'
import type { DatabaseSettings } from '../../src/db/open.ts'
import { createHeddle, type Heddle, type HeddleOptions, type Observation } from '../../src/index.ts'
import { createDatabase, needed, type TestDatabase } from './databases.ts'
import { until } from './until.ts'

export type StackName = 'embedded' | 'postgres+redis' | 'postgres'

export interface TestServer {
  readonly heddle: Heddle
  /** The official SDK, straight into the server without a socket; it never tries again. */
  readonly client: Client
  /** Everything the server observed so far. */
  readonly seen: readonly Observation[]
  /** A request to a path; a body that is not a string is sent as JSON. */
  request(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>
  close(): Promise<void>
}

export interface Stack {
  readonly name: StackName
  /** Settings of this suite's database: on Postgres the same for all servers, so that they form one deployment. */
  database(): DatabaseSettings
  redis(): { uri: string; prefix: string } | undefined
  /**
   * Starts a server on this stack. It is closed at the latest when the test has ended that started it, so that it takes no run
   * of the next one, or else after the suite. Several share the data, except embedded.
   */
  heddle(options: Omit<HeddleOptions, 'database' | 'redis'>): Promise<TestServer>
}

const names: readonly StackName[] = ['embedded', 'postgres+redis', 'postgres']

/** Defines the suite once for each stack; `only` leaves some out, where a suite makes no sense on them. */
export function eachStack(suite: (stack: Stack) => void, { only = names }: { only?: readonly StackName[] } = {}): void {
  for (const name of only) describe(`on ${name}`, () => suite(createStack(name)))
}

function createStack(name: StackName): Stack {
  const servers: TestServer[] = []
  const prefix = `test-${randomUUID()}:`
  let database: TestDatabase | undefined
  let before: Record<string, number> = {}
  const warnings: string[] = []
  const onWarning = ({ name: kind, message }: Error) => {
    if (kind === 'MaxListenersExceededWarning') warnings.push(message)
  }

  beforeAll(async () => {
    process.on('warning', onWarning)
    before = openResources()
    if (name !== 'embedded') database = await createDatabase()
  })
  afterAll(async () => {
    await Promise.all(servers.map((server) => server.close()))
    await database?.drop()
    process.off('warning', onWarning)
    expect(warnings, 'Node warns of leaks').toEqual([])
    if (name === 'postgres+redis') expect(await redisChannels(prefix), 'channels still subscribed in Redis').toEqual([])
    await until('listeners and child processes are gone', () => leaked(before).length === 0, 5_000).catch(() =>
      expect(leaked(before), 'left open by this suite').toEqual([]),
    )
  })
  const stack: Stack = {
    name,
    database: () => (database ? { uri: database.uri } : { memory: true }),
    redis: () => (name === 'postgres+redis' ? { uri: needed('TEST_REDIS_URI'), prefix } : undefined),
    async heddle(options) {
      const redis = stack.redis()
      const server = await startServer({ ...options, database: stack.database(), ...(redis && { redis }) })
      if (TestRunner.getCurrentTest()) onTestFinished(() => server.heddle.close({ now: true }))
      servers.push(server)
      return server
    },
  }
  return stack
}

/** A server with a client on it, for suites of their own database. */
export async function startServer(options: HeddleOptions): Promise<TestServer> {
  const seen: Observation[] = []
  const heddle = await createHeddle({
    ...options,
    observe: (observation) => {
      seen.push(observation)
      options.observe?.(observation)
    },
  })
  const base = 'http://heddle.test'
  const direct: typeof fetch = (input, init) => heddle.fetch(new Request(input, init))
  return {
    heddle,
    seen,
    client: new Client({
      apiUrl: base,
      apiKey: null,
      callerOptions: { fetch: direct, maxRetries: 0, maxConcurrency: 100 },
    }),
    request: (method, path, body, headers = {}) => {
      if (body === undefined) return direct(base + path, { method, headers })
      const text = typeof body === 'string' ? body : JSON.stringify(body)
      return direct(base + path, { method, headers: { 'content-type': 'application/json', ...headers }, body: text })
    },
    close: () => heddle.close(),
  }
}

/** What must not outlive a suite; sockets of pooled clients and timers may. */
const counted = ['TCPServerWrap', 'ProcessWrap']

function openResources(): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo())
    if (counted.includes(kind)) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}

function leaked(before: Record<string, number>): string[] {
  return Object.entries(openResources()).flatMap(([kind, count]) =>
    Array<string>(Math.max(0, count - (before[kind] ?? 0))).fill(kind),
  )
}

async function redisChannels(prefix: string): Promise<string[]> {
  const client = createClient({ url: needed('TEST_REDIS_URI') })
  await client.connect()
  try {
    return await until('no channel is subscribed', async () => {
      const channels = await client.pubSubChannels(`${prefix}*`)
      return channels.length === 0 ? channels : undefined
    }).catch(() => client.pubSubChannels(`${prefix}*`))
  } finally {
    client.destroy()
  }
}
