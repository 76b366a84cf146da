// The driver for a Postgres server. In charge of the bounded pool, transactions and prepared statements; holds no
// connection while a graph runs, because every method gives its connection back before it returns.

import pg from 'pg'
import type { Database, Db } from './db.ts'
import type { Sql } from './sql.ts'
import { interpret, isGone, isRetryable } from './sqlstate.ts'
import { parsers } from './types.ts'

export interface PgOptions {
  /** postgres:// URI. */
  uri: string
  /** Most connections this process opens. */
  poolSize: number
  /** Called when an idle connection breaks; the pool opens another. */
  onError: (error: unknown) => void
}

/** Statements get a name, so that Postgres plans them once per connection; past this many the rest go unnamed. */
const MAX_NAMED = 400
/** A statement that takes longer is stuck: it is ended, and the caller told to try again. */
const STATEMENT_TIMEOUT_MS = 30_000

/** Opens a pool. Throws `ApiError('database_unavailable')` when the server cannot be reached. */
export async function openPg(options: PgOptions): Promise<Database> {
  const pool = new pg.Pool({
    connectionString: options.uri,
    max: options.poolSize,
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    pipeline: true,
    query_timeout: STATEMENT_TIMEOUT_MS + 5_000,
    types: { getTypeParser: ((oid: number, format?: 'text') => parsers[oid] ?? pg.types.getTypeParser(oid, format)) as never },
  } as pg.PoolConfig)
  pool.on('error', options.onError)
  const name = (await isDirect(pool)) ? namer() : () => undefined

  const over = (client: pg.Pool | pg.ClientBase): Pick<Db, 'rows'> => ({
    rows: async <T>(query: Sql) => {
      try {
        const result = await client.query({ name: name(query.text), text: query.text, values: query.values as unknown[] })
        return result.rows as T[]
      } catch (error) {
        throw interpret(error)
      }
    },
  })
  return {
    ...over(pool),
    kind: 'pg',
    description: describe(options.uri),
    script: async (text) => void (await pool.query(text)),
    close: () => pool.end(),
    tx: (work) => retried(() => inTransaction(pool, over, work)),
  }
}

async function inTransaction<T>(
  pool: pg.Pool,
  over: (client: pg.ClientBase) => Pick<Db, 'rows'>,
  work: (db: Db) => Promise<T>,
): Promise<T> {
  const client = await pool.connect().catch((error: unknown) => {
    throw interpret(error)
  })
  let broken: Error | undefined
  const onError = (error: Error) => {
    broken = error
  }
  client.on('error', onError)
  try {
    // Not awaited: the pipeline sends it with the first statement, in one round trip.
    const began = client.query('begin')
    began.catch(() => {})
    const db: Db = { ...over(client), tx: (inner) => inner(db) }
    const result = await work(db)
    await began
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch((failure: unknown) => {
      broken = failure as Error
    })
    if (isGone(error)) broken = error as Error
    throw interpret(error)
  } finally {
    client.removeListener('error', onError)
    client.release(broken)
  }
}

/** A transaction that lost a race did nothing: run it again, at most three times. */
async function retried<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = 3; ; left--) {
    try {
      return await attempt()
    } catch (error) {
      if (left === 0 || !isRetryable(error)) throw error
    }
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

function namer(): (text: string) => string | undefined {
  const names = new Map<string, string>()
  return (text) => {
    const known = names.get(text)
    if (known !== undefined || names.size >= MAX_NAMED) return known
    const made = `heddle_${names.size}`
    names.set(text, made)
    return made
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
