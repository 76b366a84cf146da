// Statements on checkpoints. In charge of reading them with their values and writes in one round trip; values are bytes
// here. Writing is in db/journal.ts.

import type { Blob, GuestCalls, StoredCheckpoint } from '../executor/protocol.ts'
import type { Db } from './db.ts'
import { json } from './json.ts'
import { and, type Sql, sql } from './sql.ts'

export { store } from './journal.ts'

interface Row {
  kind: 'checkpoint' | 'value' | 'write'
  thread_id: string
  checkpoint_ns: string
  checkpoint_id: string
  parent_checkpoint_id: string | null
  checkpoint: Record<string, unknown> | null
  metadata: Record<string, unknown> | null
  channel: string | null
  task_id: string | null
  task_path: string | null
  idx: number | null
  type: string | null
  bytes: Uint8Array | null
}

/** The named, or the latest, checkpoint of a namespace. */
export async function get(db: Db, which: GuestCalls['checkpoint.get']['params']): Promise<StoredCheckpoint | null> {
  const chosen = sql`select * from checkpoints c where c.thread_id = ${which.thread_id}
    and c.checkpoint_ns = ${which.checkpoint_ns}
    and ${which.checkpoint_id === undefined ? sql`true` : sql`c.checkpoint_id = ${which.checkpoint_id}`}
    order by c.checkpoint_id desc limit 1`
  return (await read(db, chosen))[0] ?? null
}

/** Checkpoints of a thread, newest first. */
export function list(db: Db, which: GuestCalls['checkpoint.list']['params']): Promise<StoredCheckpoint[]> {
  const chosen = sql`select * from checkpoints c where ${and([
    sql`c.thread_id = ${which.thread_id}`,
    which.checkpoint_ns === undefined ? undefined : sql`c.checkpoint_ns = ${which.checkpoint_ns}`,
    which.checkpoint_id === undefined ? undefined : sql`c.checkpoint_id = ${which.checkpoint_id}`,
    which.before === undefined ? undefined : sql`c.checkpoint_id < ${which.before}`,
    which.metadata === undefined ? undefined : sql`c.metadata @> ${json(which.metadata)}::jsonb`,
  ])} order by c.checkpoint_id desc limit ${which.limit ?? null}`
  return read(db, chosen)
}

const ofGone = sql`exists (select 1 from gone g where g.checkpoint_ns = w.checkpoint_ns
  and g.checkpoint_id = w.checkpoint_id)`

/** Removes a run's checkpoints with the values and writes only they had, and what the run wrote under older checkpoints
 *  (the answer to an interrupt, say), as rollback does. Under the thread's lock. */
export const removeOfRun = (db: Db, threadId: string, runId: string): Promise<unknown> =>
  db.rows(sql`with gone as (delete from checkpoints where thread_id = ${threadId} and run_id = ${runId}
      returning thread_id, checkpoint_ns, checkpoint_id, checkpoint),
    w as (delete from checkpoint_writes w where w.thread_id = ${threadId}
      and (${ofGone} or (w.run_id = ${runId} and w.replaced_type is null))),
    restored as (update checkpoint_writes w set run_id = w.replaced_run_id, channel = w.replaced_channel,
        type = w.replaced_type, bytes = w.replaced_bytes, replaced_run_id = null, replaced_channel = null,
        replaced_type = null, replaced_bytes = null
      where w.thread_id = ${threadId} and w.run_id = ${runId} and w.replaced_type is not null and not ${ofGone})
    delete from checkpoint_values v using gone g, json_each_text(g.checkpoint -> 'channel_versions') as had(channel, version)
    where v.thread_id = g.thread_id and v.checkpoint_ns = g.checkpoint_ns and v.channel = had.channel
      and v.version = had.version
      and not exists (select 1 from checkpoints c where c.thread_id = g.thread_id and c.checkpoint_ns = g.checkpoint_ns
        and (c.run_id is distinct from ${runId}) and c.checkpoint -> 'channel_versions' ->> v.channel = v.version)`)

/** Removes everything of a thread's history. */
export const removeOfThread = (db: Db, threadId: string): Promise<unknown> =>
  db.rows(sql`with w as (delete from checkpoint_writes where thread_id = ${threadId}),
    v as (delete from checkpoint_values where thread_id = ${threadId})
    delete from checkpoints where thread_id = ${threadId}`)

async function read(db: Db, chosen: Sql): Promise<StoredCheckpoint[]> {
  const rows = await db.rows<Row>(sql`with c as (${chosen})
    select 'checkpoint' as kind, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata,
      null as channel, null as task_id, null as task_path, null::int as idx, null as type, null::bytea as bytes from c
    union all select 'value', c.thread_id, c.checkpoint_ns, c.checkpoint_id, null, null, null, v.channel, null, null, null, v.type, v.bytes
      from c cross join lateral json_each_text(c.checkpoint -> 'channel_versions') as has(channel, version)
      join checkpoint_values v on v.thread_id = c.thread_id and v.checkpoint_ns = c.checkpoint_ns
        and v.channel = has.channel and v.version = has.version
    union all select 'write', c.thread_id, c.checkpoint_ns, c.checkpoint_id, null, null, null, w.channel, w.task_id, w.task_path, w.idx, w.type, w.bytes
      from c join checkpoint_writes w using (thread_id, checkpoint_ns, checkpoint_id)`)
  const found = new Map<string, StoredCheckpoint>()
  for (const row of rows) {
    if (row.kind !== 'checkpoint') continue
    found.set(`${row.checkpoint_ns}\n${row.checkpoint_id}`, {
      thread_id: row.thread_id,
      checkpoint_ns: row.checkpoint_ns,
      checkpoint_id: row.checkpoint_id,
      parent_checkpoint_id: row.parent_checkpoint_id,
      checkpoint: row.checkpoint ?? {},
      metadata: row.metadata ?? {},
      values: [],
      writes: [],
    })
  }
  for (const row of rows) {
    const of = found.get(`${row.checkpoint_ns}\n${row.checkpoint_id}`)
    if (of === undefined || row.kind === 'checkpoint') continue
    const blob: Blob = { type: row.type as string, bytes: row.bytes as Uint8Array }
    const channel = row.channel as string
    if (row.kind === 'value') of.values.push({ channel, blob })
    else
      of.writes.push({
        task_id: row.task_id as string,
        task_path: row.task_path as string,
        idx: row.idx as number,
        channel,
        blob,
      })
  }
  const all = [...found.values()].sort((a, b) =>
    a.checkpoint_id < b.checkpoint_id ? 1 : a.checkpoint_id > b.checkpoint_id ? -1 : 0,
  )
  for (const { writes } of all) writes.sort(byExecution)
  return all
}

type Write = StoredCheckpoint['writes'][number]
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** The order in which live execution applies a superstep's writes. */
const byExecution = (a: Write, b: Write): number =>
  compare(a.task_path, b.task_path) || compare(a.task_id, b.task_id) || a.idx - b.idx
