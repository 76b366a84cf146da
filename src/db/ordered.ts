// Statements that must follow an index in its order. In charge of keeping the planner from reading everything and sorting it
// instead, which it chooses where it guesses wrongly how few rows will fit.

import type { Db } from './db.ts'
import { sql } from './sql.ts'

/** Does `work` in a transaction in which sorting is the last resort. Its statements must be sent before it waits for any. */
export const inOrder = <T>(db: Db, work: (db: Db) => Promise<T>): Promise<T> =>
  db.tx(async (tx) => {
    const set = tx.rows(sql`select set_config('enable_sort', 'off', true)`)
    const done = work(tx)
    // The transaction may go on with other statements.
    const restored = tx.rows(sql`select set_config('enable_sort', 'on', true)`)
    const [result] = await Promise.all([done, set, restored])
    return result
  })
