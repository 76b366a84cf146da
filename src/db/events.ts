// The event log: reading and pruning (writing is in db/journal.ts). A row holds a batch: a line per event, name, tab,
// data as JSON; JSON printed by JSON.stringify has no raw line break or tab outside of strings' escapes.

import type { Db } from './db.ts'
import { sql } from './sql.ts'

export interface EventBatch {
  first_seq: number
  last_seq: number
  run_id: string
  batch: string
}

/** Batches of a thread that hold events after `seq`, oldest first. */
export const after = (db: Db, threadId: string, seq: number, limit: number): Promise<EventBatch[]> =>
  db.rows(sql`select first_seq, last_seq, run_id, batch from events
    where thread_id = ${threadId} and first_seq > (select coalesce(max(first_seq), 0) - 1 from events
      where thread_id = ${threadId} and first_seq <= ${seq} + 1) and last_seq > ${seq}
    order by first_seq limit ${limit}`)

/** Where a thread's log ends now. */
export const position = async (db: Db, threadId: string): Promise<number> => {
  const rows = await db.rows<{ seq: number }>(sql`select greatest(t.last_seq,
      coalesce((select max(e.last_seq) from events e where e.thread_id = t.thread_id), 0)) as seq
    from threads t where t.thread_id = ${threadId}`)
  return rows[0]?.seq ?? 0
}

/** Where a run's events begin: the seq before its first, or where the log ends while it has none. Asked at once, because its
 *  first event may come in between. */
export const beginning = async (db: Db, run: { run_id: string; thread_id: string }): Promise<number> => {
  const rows = await db.rows<{ seq: number }>(sql`select coalesce(
      (select min(e.first_seq) - 1 from events e where e.run_id = ${run.run_id}),
      greatest(t.last_seq, (select max(e.last_seq) from events e where e.thread_id = t.thread_id))) as seq
    from threads t where t.thread_id = ${run.thread_id}`)
  return rows[0]?.seq ?? 0
}

/** Where each thread's log ends, for threads that grew past what the caller has seen. */
export const grown = (
  db: Db,
  threadIds: readonly string[],
  seen: readonly number[],
): Promise<{ thread_id: string }[]> =>
  db.rows(sql`select n.thread_id from unnest(${threadIds}::uuid[], ${seen}::bigint[]) as n(thread_id, seq)
    where exists (select 1 from events e where e.thread_id = n.thread_id and e.first_seq > n.seq)`)

/** Deletes events of runs that ended more than `seconds` ago, in a small batch; gives how many rows went. */
export const prune = async (db: Db, seconds: number, limit: number): Promise<number> => {
  const rows = await db.rows(sql`delete from events where (thread_id, first_seq) in (
      select e.thread_id, e.first_seq from events e
      where e.created_at < clock_timestamp() - make_interval(secs => ${seconds}::float8)
        and not exists (select 1 from runs r where r.run_id = e.run_id and (r.status in ('pending', 'running')
          or r.ended_at > clock_timestamp() - make_interval(secs => ${seconds}::float8)))
      limit ${limit}) returning 1`)
  return rows.length
}
