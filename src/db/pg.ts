// The driver for a Postgres server. In charge of the bounded pool; holds no connection while a graph runs, because every
// method of the pool gives its connection back before it returns.

import pg from 'pg'
import type { Database } from './db.ts'
import { overPool, types } from './pool.ts'
import type { Seal } from './seal.ts'
import { breakSilent } from './silence.ts'
import { interpret } from './sqlstate.ts'

export interface PgOptions {
  /** postgres:// URI. */
  uri: string
  /** Most connections this process opens. */
  poolSize: number
  /** Plan each statement once and for all: for few, large statements whose plan does not depend on their values. */
  generic?: boolean
  seal?: Seal | undefined
  /** Called when an idle connection breaks; the pool opens another. */
  onError: (error: unknown) => void
}

/** A statement that takes longer is stuck: it is ended, and the caller told to try again. */
const STATEMENT_TIMEOUT_MS = 30_000

/** A connection on which nothing comes for this long is looked into; together with the probe it bounds what a request waits
 *  for a server that is gone without a word. */
const SUSPECT_AFTER_MS = 2_000
const PROBE_MS = 2_500

/** Opens a pool. Throws `ApiError('database_unavailable')` when the server cannot be reached. */
export async function openPg(options: PgOptions): Promise<Database> {
  const config: pg.PoolConfig & { pipeline: boolean } = {
    connectionString: options.uri,
    max: options.poolSize,
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    // Statements that do not wait for each other share a round trip.
    pipeline: true,
    query_timeout: STATEMENT_TIMEOUT_MS,
    types,
  }
  const pool = new pg.Pool(config)
  pool.on('error', options.onError)
  const direct = await isDirect(pool)
  if (direct) {
    // Compiling a statement over long histories takes Postgres 100 ms, and running it 2.
    const settings = ['set jit = off']
    // Postgres would plan each the first five times for its values: a third of such a statement's time.
    if (options.generic) settings.push('set plan_cache_mode = force_generic_plan')
    const settle = (client: pg.ClientBase | pg.Pool) => client.query(settings.join('; '))
    pool.on('connect', (client) => void settle(client).catch(options.onError))
    await settle(pool)
  }
  const stop = breakSilent(pool, { uri: options.uri, suspectAfterMs: SUSPECT_AFTER_MS, probeMs: PROBE_MS, direct })
  return {
    ...overPool(pool, { named: direct, alone: false, seal: options.seal }),
    kind: 'pg',
    description: describe(options.uri),
    close: () => {
      stop()
      return pool.end()
    },
  }
}

/** False behind a pooler in transaction mode, where a named statement may meet another server process. */
async function isDirect(pool: pg.Pool): Promise<boolean> {
  const client = await pool.connect().catch((error: unknown) => {
    throw interpret(error)
  })
  try {
    const { rows } = await client.query('select pg_backend_pid() as pid')
    return rows[0].pid === (client as unknown as { processID: number }).processID
  } finally {
    client.release()
  }
}

function describe(uri: string): string {
  try {
    const { host, pathname } = new URL(uri)
    return `postgres ${host || 'local socket'}${pathname}`
  } catch {
    return 'postgres'
  }
}
