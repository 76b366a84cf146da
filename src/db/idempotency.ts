// Idempotency keys: which runs a request made. In charge of making two requests with one key one request.

import { type Db, one } from './db.ts'
import { sql } from './sql.ts'

/** Takes a key inside the transaction that makes its runs. Gives nothing when it was free; else what it was used for
 *  (a request that is just taking it is waited for). */
export async function take(
  db: Db,
  key: string,
  bodyHash: string,
  runIds: readonly string[],
): Promise<{ body_hash: string; run_ids: string[] } | undefined> {
  const taken = await one(
    db.rows(sql`insert into idempotency_keys (key, body_hash, run_ids) values (${key}, ${bodyHash}, ${runIds}::uuid[])
      on conflict (key) do nothing returning key`),
  )
  if (taken !== undefined) return undefined
  return one(db.rows(sql`select body_hash, run_ids::text[] as run_ids from idempotency_keys where key = ${key}`))
}

/** Forgets keys a day after their use. */
export const sweep = async (db: Db, limit: number): Promise<number> =>
  (
    await db.rows(sql`delete from idempotency_keys where key in (select key from idempotency_keys
      where created_at < clock_timestamp() - interval '1 day' limit ${limit}) returning key`)
  ).length
