// Where a row of faults is played: a database of the file's own, servers on it that are quick to notice a loss, and a graph
// whose nodes note what they really did. In charge of giving each test an empty database and of closing what it opened.

import pg from 'pg'
import { afterAll, afterEach, beforeAll } from 'vitest'
import type { Database } from '../../../src/db/db.ts'
import { type DatabaseSettings, openDatabase } from '../../../src/db/open.ts'
import type { HeddleOptions } from '../../../src/index.ts'
import { silent } from '../../../src/observe.ts'
import { createDatabase, type TestDatabase } from '../../support/databases.ts'
import { type EventReader, readEvents } from '../../support/events.ts'
import { createRunGraphs, type RunGraphs } from '../../support/graphs/runs.ts'
import { startProxy, type TcpProxy } from '../../support/proxy.ts'
import { startServer, type TestServer } from '../../support/stacks.ts'

export interface Stage {
  /** The graphs of the present test, with its gates and its ledger. */
  readonly made: RunGraphs
  uri(): string
  /** A server with the test's graphs; 2 s of lease, and next to no grace when it is closed. */
  heddle(options?: Partial<HeddleOptions>): Promise<TestServer>
  /** A pool of its own, past every server. */
  database(poolSize?: number): Promise<Database>
  /** A connection of its own, past every server. */
  connect(): Promise<pg.Client>
  query<T = Record<string, unknown>>(text: string, values?: unknown[]): Promise<T[]>
  proxy(uri: string, port: number): Promise<TcpProxy>
  /** Closes this with the test. */
  after(close: () => unknown): void
}

/** A stage for the tests of a file, on a database of the tests' server or on the one that `open` gives. */
export function createStage(open: () => Promise<Pick<TestDatabase, 'uri' | 'drop'>> = createDatabase): Stage {
  const closing: (() => unknown)[] = []
  let database: Pick<TestDatabase, 'uri' | 'drop'>
  let made = createRunGraphs()
  const uri = () => database.uri
  const after = (close: () => unknown) => void closing.push(close)

  beforeAll(async () => {
    database = await open()
  })
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
    await query(
      'with w as (delete from workers), k as (delete from idempotency_keys), d as (delete from webhook_deliveries) delete from threads',
    )
    made = createRunGraphs()
  })
  afterAll(() => database.drop())

  const connect = async () => {
    const client = new pg.Client({ connectionString: uri() })
    client.on('error', () => {})
    await client.connect()
    after(() => client.end().catch(() => {}))
    return client
  }
  async function query<T>(text: string, values: unknown[] = []): Promise<T[]> {
    const client = new pg.Client({ connectionString: uri() })
    await client.connect()
    try {
      return (await client.query(text, values)).rows
    } finally {
      await client.end()
    }
  }
  return {
    get made() {
      return made
    },
    uri,
    query,
    connect,
    after,
    async heddle({ config, ...options } = {}) {
      const database: DatabaseSettings = { uri: uri() }
      const server = await startServer({
        graphs: made.graphs,
        database,
        ...options,
        config: { leaseSeconds: 2, shutdownGraceSeconds: 0.05, ...config },
      })
      after(server.close)
      return server
    },
    async database(poolSize = 1) {
      const opened = await openDatabase({ uri: uri(), poolSize }, silent)
      after(opened.close)
      return opened
    },
    async proxy(target, port) {
      const proxy = await startProxy(target, port)
      after(proxy.close)
      return proxy
    },
  }
}

export const newThread = async (server: TestServer): Promise<string> => (await server.client.threads.create()).thread_id

/** Starts a run of `steps` and reads its updates. */
export async function streamOn(server: TestServer, threadId: string, input: object): Promise<EventReader> {
  const body = { assistant_id: 'steps', input, stream_mode: 'updates' }
  return readEvents(await server.request('POST', `/threads/${threadId}/runs/stream`, body))
}

/** Follows a run from after an event. */
export const joinOn = async (
  server: TestServer,
  run: { thread_id: string; run_id: string },
  after: string,
): Promise<EventReader> =>
  readEvents(
    await server.request('GET', `/threads/${run.thread_id}/runs/${run.run_id}/stream`, undefined, {
      'last-event-id': after,
    }),
  )

/** True once the server observed this of the run. */
export const observed = (server: TestServer, kind: string, runId: string): boolean =>
  server.seen.some((seen) => seen.kind === kind && 'run_id' in seen && seen.run_id === runId)

/** How often a run was settled, over some servers: an end is one, a release is none. */
export const settlements = (servers: readonly TestServer[], runId: string): string[] =>
  servers.flatMap(({ seen }) =>
    seen.flatMap((one) =>
      one.kind === 'run_settled' && one.run_id === runId && one.outcome !== 'released' ? [one.outcome] : [],
    ),
  )

/** Numbers that only look random: the same for the same seed. */
export function createDice(seed: number): { below(limit: number): number; yes(): boolean } {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return { below, yes: () => below(2) === 1 }
}
