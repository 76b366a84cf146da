// The database seam: what statements are given. Two drivers implement it (pg, pglite) and one suite holds both to it.

import type { Gather } from './gather.ts'
import type { Seal } from './seal.ts'
import type { Sql } from './sql.ts'

/** A connection to Postgres, pooled or inside a transaction. Rows come as both drivers' common types: int8 as a safe
 *  number, timestamptz as ISO text in UTC, json and jsonb parsed, bytea as Uint8Array. */
export interface Db {
  /** Runs one statement and gives its rows. Throws `ApiError('database_unavailable')` when the database is gone. */
  rows<T = Record<string, unknown>>(query: Sql): Promise<T[]>
  /** Runs `work` in one transaction (nested calls join it). Use only the handle that is passed in. A serialization
   *  failure or deadlock runs it again, so it must do nothing but database work. */
  tx<T>(work: (db: Db) => Promise<T>): Promise<T>
  /** Encrypts what rows hold; absent where nothing is encrypted. */
  readonly seal?: Seal | undefined
  /** Sends calls together; absent in a transaction. */
  readonly gather?: Gather | undefined
  /** `rows` for the last statement of a transaction: the commit travels with it. Nothing may be thrown after it that
   *  should undo it. Outside of a transaction it is `rows`. */
  last<T = Record<string, unknown>>(query: Sql): Promise<T[]>
}

/** An opened database: owns the pool or the embedded engine. */
export interface Database extends Db {
  readonly kind: 'pg' | 'pglite'
  /** For the start-up line and logs: never holds a password. */
  readonly description: string
  /** Runs a script of several statements (migrations only). */
  script(text: string): Promise<void>
  /** Frees the room of rows that were changed or deleted, once there are enough of them; absent where the database does so by
   *  itself. */
  reclaim?(): Promise<void>
  close(): Promise<void>
}

/** The one row a statement gave, or undefined. */
export async function one<T>(rows: Promise<T[]>): Promise<T | undefined> {
  return (await rows)[0]
}

/** A transaction as a part of a larger one: what would end it does not. */
export function within(tx: Db): Db {
  const part: Db = { ...tx, last: tx.rows, tx: (work) => work(part) }
  return part
}
