// A database over a pg pool: statements, transactions, prepared statements. In charge of giving every connection back, a
// broken one as broken; both drivers are this, over a server or over the embedded engine.

import type { Duplex } from 'node:stream'
import pg from 'pg'
import type { Database, Db } from './db.ts'
import { createGather } from './gather.ts'
import type { Seal } from './seal.ts'
import { type Sql, sql } from './sql.ts'
import { interpret, isAftermath, isRefusal, isRetryable } from './sqlstate.ts'
import { parsers } from './types.ts'

/** Statements get a name, so that Postgres plans them once per connection; past this many the rest go unnamed. */
const MAX_NAMED = 400

/** Type parsers for a pool's `types`. */
export const types = {
  getTypeParser: ((oid: number, format?: 'text') => parsers[oid] ?? pg.types.getTypeParser(oid, format)) as never,
}

/** Everything of a database but its name. `named` is false where a named statement may meet another server process;
 *  `alone` is true for a
 *  database of one connection, which takes no statement before it has answered the one before. */
export function overPool(
  pool: pg.Pool,
  options: { named: boolean; alone: boolean; seal: Seal | undefined },
): Omit<Database, 'kind' | 'description' | 'close'> {
  const name = options.named ? namer() : () => undefined
  const over = (client: pg.ClientBase, onBroken: (error: Error) => void): Sent => ({
    rows: async <T>(query: Sql) => {
      together(client)
      try {
        const result = await client.query({
          name: query.adHoc ? undefined : name(query.text),
          text: query.text,
          values: query.values as unknown[],
        })
        return result.rows as T[]
      } catch (error) {
        if (!isRefusal(error)) onBroken(error as Error)
        throw interpret(error)
      }
    },
  })
  const lend: Lend = (work) => lent(pool, over, work)
  // A statement of its own is a transaction of its own.
  const rows: Db['rows'] = (query) => retried(() => lend((sent) => sent.rows(query)))
  return {
    rows,
    last: rows,
    script: async (text) => void (await pool.query(text)),
    seal: options.seal,
    gather: createGather(options.alone ? 1 : 2),
    tx: (work) => retried(() => lend((sent) => inTransaction(options.alone ? inTurn(sent) : sent, options.seal, work))),
  }
}

type Sent = Pick<Db, 'rows'>
type Lend = <T>(work: (sent: Sent) => Promise<T>) => Promise<T>

/** Lends a connection for some work. What a refused statement leaves is as good as it was, and goes back with all that is
 *  planned on it; the pool's own query() would close it. */
async function lent<T>(
  pool: pg.Pool,
  over: (client: pg.ClientBase, onBroken: (error: Error) => void) => Sent,
  work: (sent: Sent) => Promise<T>,
): Promise<T> {
  const client = await pool.connect().catch((error: unknown) => {
    throw interpret(error)
  })
  let broken: Error | undefined
  const onBroken = (error: Error) => {
    broken = error
  }
  client.on('error', onBroken)
  try {
    return await work(over(client, onBroken))
  } finally {
    client.removeListener('error', onBroken)
    client.release(broken)
  }
}

async function inTransaction<T>(sent: Sent, seal: Seal | undefined, work: (db: Db) => Promise<T>): Promise<T> {
  let committed: Promise<unknown> | undefined
  let cause: unknown
  const rows: Db['rows'] = async (query) => {
    try {
      return await sent.rows(query)
    } catch (error) {
      if (!isAftermath(error)) cause ??= error
      throw error
    }
  }
  const db: Db = {
    rows,
    seal,
    tx: (inner) => inner(db),
    last: (query) => {
      const result = rows(query)
      // After a statement that failed, Postgres rolls back when told to commit.
      committed = rows(sql`commit`)
      committed.catch(() => {})
      return result as never
    },
  }
  try {
    // Not awaited: a pipeline sends it with the first statement, in one round trip.
    const began = rows(sql`begin`)
    began.catch(() => {})
    const result = await work(db)
    await began
    await (committed ?? rows(sql`commit`))
    return result
  } catch (error) {
    await (committed ?? sent.rows(sql`rollback`)).catch(() => {})
    // Of statements sent together, a later one's complaint about the first may be heard before the first's own.
    throw isAftermath(error) ? (cause ?? error) : error
  }
}

/** Statements that a transaction sends in one turn leave in one write. */
function together(client: pg.ClientBase): void {
  const { stream } = (client as { connection?: { stream?: Partial<Duplex> } }).connection ?? {}
  if (stream?.cork === undefined || stream.uncork === undefined) return
  stream.cork()
  const uncork = stream.uncork.bind(stream)
  process.nextTick(uncork)
}

/** One statement after the other, for connections that take no second one meanwhile. */
function inTurn(one: Sent): Sent {
  let last: Promise<unknown> = Promise.resolve()
  return {
    rows: <T>(query: Sql) => {
      const next = last.then(
        () => one.rows<T>(query),
        () => one.rows<T>(query),
      )
      last = next
      return next
    },
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
