// The event log: reading and pruning (writing is in db/journal.ts). A row holds a batch: a line per event, name, tab,
// data as JSON; JSON printed by JSON.stringify has no raw line break or tab outside of strings' escapes.

import { type Db, one } from './db.ts'
import { createReader } from './event-deltas.ts'
import { names, openText } from './seal.ts'
import { type Sql, sql } from './sql.ts'

export interface EventBatch {
  first_seq: number
  last_seq: number
  run_id: string
  /** When it was made, in milliseconds since 1970. */
  at: number
  batch: string
}

/** Some of a thread's log. */
export interface Page {
  batches: EventBatch[]
  /** True where the log goes on behind the page. */
  more: boolean
}

/** What a page may hold, in rows and in bytes; one batch comes whatever its size. */
const PAGE = { rows: 100, bytes: 4 * 1024 * 1024 }

const at = sql`coalesce(at_ms, floor(extract(epoch from created_at) * 1000)::bigint)`

/** A thread's events after `seq`, oldest first: as many batches as a page holds. */
export const after = async (db: Db, threadId: string, seq: number): Promise<Page> => {
  const rows = await db.rows<
    EventBatch & { rows: number; base: number | null }
  >(sql`select first_seq, last_seq, run_id, at, batch, base, rows from (
      select first_seq, last_seq, run_id, ${at} as at, batch, base, count(*) over () as rows,
        sum(coalesce(size, octet_length(batch))) over (order by first_seq) - coalesce(size, octet_length(batch)) as bytes_before
      from (select * from events where thread_id = ${threadId} and first_seq > (select coalesce(max(first_seq), 0) - 1
          from events where thread_id = ${threadId} and first_seq <= ${seq} + 1) and last_seq > ${seq}
        order by first_seq limit ${PAGE.rows}) as page) as sized
    where bytes_before < ${PAGE.bytes} order by first_seq`)
  const batches = await whole(db, threadId, rows)
  const read = rows[0]?.rows ?? 0
  return { batches, more: read === PAGE.rows || rows.length < read }
}

/** The batches as they were sent. Where a page begins behind a state that the rest starts from, the log is read from there. */
async function whole(
  db: Db,
  threadId: string,
  rows: readonly (EventBatch & { rows: number; base: number | null })[],
): Promise<EventBatch[]> {
  const open = (row: Pick<EventBatch, 'first_seq' | 'run_id' | 'batch'>) =>
    openText(db, row.batch, names.events(threadId, row))
  const bases = rows.flatMap(({ base }) => (base === null ? [] : [base]))
  const read = bases.length === 0 ? undefined : createReader()
  const begin = rows[0]?.first_seq ?? 0
  const from = Math.min(begin, ...bases)
  if (read && from < begin) {
    const before = await db.rows<Parameters<typeof open>[0]>(sql`select first_seq, run_id, batch from events
      where thread_id = ${threadId} and first_seq >= ${from} and first_seq < ${begin} order by first_seq`)
    for (const row of before) read(open(row))
  }
  return rows.map(({ rows: _, base: __, ...row }) => ({ ...row, batch: read ? read(open(row)) : open(row) }))
}

const last = sql`greatest(t.last_seq, coalesce((select max(e.last_seq) from events e where e.thread_id = t.thread_id), 0))`

/** Where to read a thread from: from what happens next on, from everything, or from what follows an event. */
export type From = 'now' | 'beginning' | number

/** Where a reader begins. */
export interface Start {
  /** The seq to read after. */
  after: number
  /** True where the event that follows was kept no longer: what comes next is not what came next. */
  gap: boolean
}

const follows = (
  seq: number,
): Sql => sql`exists (select 1 from events e where e.thread_id = t.thread_id and e.last_seq > ${seq}
  and e.first_seq = (select max(b.first_seq) from events b where b.thread_id = t.thread_id and b.first_seq <= ${seq} + 1))`

const start = (from: From, beginning: { after: Sql; gap: Sql }): Sql => {
  if (from === 'now') return sql`${last} as after, false as gap`
  if (from === 'beginning') return sql`coalesce(${beginning.after}, ${last}) as after, ${beginning.gap} as gap`
  return sql`${from}::bigint as after, ${last} > ${from} and not ${follows(from)} as gap`
}

const ofRun = {
  after: sql`(select min(e.first_seq) - 1 from events e where e.run_id = r.run_id)`,
  gap: sql`r.attempt > 0 and r.status not in ('pending', 'running')
    and not exists (select 1 from events e where e.run_id = r.run_id)`,
}

/** A run that may be seen (also a temporary one that has ended, until it is swept) and where its reader begins, in one
 *  statement: its first event may come at any moment. */
export const startOfRun = (
  db: Db,
  run: { run_id: string; thread_id: string | null },
  from: From,
  visible: Sql,
): Promise<(Start & { run_id: string; thread_id: string }) | undefined> =>
  one(
    db.rows(sql`select r.run_id, t.thread_id, ${start(from, ofRun)}
      from runs r join threads t using (thread_id)
      where r.run_id = ${run.run_id} and (${run.thread_id}::uuid is null or r.thread_id = ${run.thread_id})
        and exists (select 1 from threads where threads.thread_id = r.thread_id and ${visible})`),
  )

/** The same for a whole thread that may be seen. */
export const startOfThread = (db: Db, threadId: string, from: From): Promise<Start | undefined> =>
  one(
    db.rows(
      sql`select ${start(from, { after: sql`0`, gap: sql`false` })} from threads t where t.thread_id = ${threadId}`,
    ),
  )

/** Where a reader of a whole thread begins who must be given each run from its beginning. */
export interface Beginning {
  /** The thread's last event so far. */
  last: number
  /** Read after this one: a run that goes on past the event asked for began behind it. */
  after: number
  /** Where the last run that has begun so far begins. */
  begun: number
}

// Of a run that never began, there is at most its end.
const lastBegun = (
  upTo: Sql,
): Sql => sql`(select min(b.first_seq) from events b where b.run_id = (select e.run_id from events e
  where e.thread_id = t.thread_id and e.first_seq <= ${upTo} and not starts_with(e.batch, ${'__end\t'})
  order by e.first_seq desc limit 1))`

/** For a thread that may be seen: where to read it from for what follows the event `since`. */
export const beginningOf = (db: Db, threadId: string, since: number, visible: Sql): Promise<Beginning | undefined> =>
  one(
    db.rows(sql`select ${last} as last, coalesce(${lastBegun(sql`9223372036854775807`)}, 0) as begun,
        greatest(0, least(${since}::bigint, ${lastBegun(sql`${since}::bigint`)}) - 1) as after
      from threads t where t.thread_id = ${threadId} and t.doomed_at is null
        and exists (select 1 from threads where threads.thread_id = t.thread_id and ${visible})`),
  )

/** Where each thread's log ends, for threads that grew past what the caller has seen. */
export const grown = (
  db: Db,
  threadIds: readonly string[],
  seen: readonly number[],
): Promise<{ thread_id: string }[]> =>
  db.rows(sql`select n.thread_id from unnest(${threadIds}::uuid[], ${seen}::bigint[]) as n(thread_id, seq)
    where exists (select 1 from events e where e.thread_id = n.thread_id and e.first_seq > n.seq)`)

/** Those among some threads that are no longer. */
export const gone = (db: Db, threadIds: readonly string[]): Promise<{ thread_id: string }[]> =>
  db.rows(sql`select n.thread_id from unnest(${threadIds}::uuid[]) as n(thread_id)
    where not exists (select 1 from threads t where t.thread_id = n.thread_id)`)

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
