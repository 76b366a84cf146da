// What bringing threads in asks of this database: what a thread has of the other one already, and when it lived there.

import type { Db } from './db.ts'
import { sql } from './sql.ts'

/** The thread's checkpoints, as namespace, line break, id. */
export const checkpointIds = async (db: Db, threadId: string): Promise<string[]> =>
  (
    await db.rows<{ id: string }>(sql`select checkpoint_ns || E'\n' || checkpoint_id as id from checkpoints
      where thread_id = ${threadId}::uuid`)
  ).map(({ id }) => id)

/** The values that are stored of the thread, as namespace, channel and version with line breaks between them. */
export const versions = async (db: Db, threadId: string): Promise<string[]> =>
  (
    await db.rows<{ key: string }>(sql`select checkpoint_ns || E'\n' || channel || E'\n' || version as key
      from checkpoint_values where thread_id = ${threadId}::uuid`)
  ).map(({ key }) => key)

/** Dates the thread by its checkpoints. */
export const date = (
  db: Db,
  threadId: string,
  createdAt: string | undefined,
  updatedAt: string | undefined,
): Promise<unknown> =>
  db.rows(sql`update threads set created_at = coalesce(${createdAt ?? null}::timestamptz, created_at),
      updated_at = coalesce(${updatedAt ?? null}::timestamptz, updated_at),
      state_updated_at = coalesce(${updatedAt ?? null}::timestamptz, state_updated_at)
    where thread_id = ${threadId}::uuid`)
