// How much a thread takes, and making it take less: pruning, the end of its time to live, and what nothing needs any more. In
// charge of removing only what no kept checkpoint needs; must never touch a thread with a run that has not ended, except
// to delete it on demand.

import { ApiError } from '../errors.ts'
import type { Db } from './db.ts'
import { one } from './db.ts'
import { splicedLists } from './splices.ts'
import { type Sql, sql } from './sql.ts'
import { present, renewedExpiry } from './threads.ts'

interface Sized {
  count: number
  bytes: number
}
/** What a thread takes in the database, in bytes before Postgres compresses them. */
export interface Storage {
  thread_id: string
  total_bytes: number
  checkpoints: Sized
  channel_values: Sized & { by_channel: Record<string, { versions: number; bytes: number }> }
  pending_writes: Sized
}

const active = sql`exists (select 1 from runs r where r.thread_id = threads.thread_id and r.status in ('pending', 'running'))`

/** Measures a thread; throws `thread_not_found`. */
export async function measure(db: Db, id: string, visible: Sql): Promise<Storage> {
  const row = await one(
    db.rows<Omit<Storage, 'total_bytes'>>(sql`
      with channels as (
        select channel, count(*) as versions, sum(octet_length(bytes) + coalesce(octet_length(splices), 0)) as bytes
        from checkpoint_values where thread_id = ${id}::uuid group by channel
      )
      select thread_id,
        (select json_build_object('count', count(*), 'bytes',
            coalesce(sum(octet_length(c.checkpoint::text) + octet_length(c.metadata::text)), 0))
          from checkpoints c where c.thread_id = threads.thread_id) as checkpoints,
        (select json_build_object('count', coalesce(sum(versions), 0), 'bytes', coalesce(sum(bytes), 0), 'by_channel',
            coalesce(json_object_agg(channel, json_build_object('versions', versions, 'bytes', bytes) order by channel), '{}'))
          from channels) as channel_values,
        (select json_build_object('count', count(*), 'bytes',
            coalesce(sum(octet_length(w.bytes) + coalesce(octet_length(w.source), 0) + coalesce(octet_length(w.splices), 0)
              + coalesce(octet_length(w.replaced_bytes), 0)), 0))
          from checkpoint_writes w where w.thread_id = threads.thread_id) as pending_writes
      from threads where thread_id = ${id}::uuid and ${present} and ${visible}`),
  )
  if (!row) throw new ApiError('thread_not_found', `The thread ${id} does not exist.`)
  const total = row.checkpoints.bytes + row.channel_values.bytes + row.pending_writes.bytes
  return { ...row, total_bytes: total }
}

/** How many threads a transaction holds at most. */
const AT_ONCE = 20

/** Deletes threads, or all but their latest checkpoints (of those where nothing runs); gives how many threads it was.
 *  Ids that mean nothing to the caller are passed over. */
export async function prune(
  db: Db,
  ids: readonly string[],
  strategy: 'delete' | 'keep_latest',
  visible: Sql,
): Promise<number> {
  let pruned = 0
  for (const some of batches([...new Set(ids)].sort())) {
    const which = sql`thread_id = any(${some}::uuid[]) and ${present} and ${visible}`
    pruned += strategy === 'delete' ? (await removeAll(db, which)).length : await keepLatestOf(db, which)
  }
  return pruned
}

function* batches(ids: readonly string[]): Generator<readonly string[]> {
  for (let at = 0; at < ids.length; at += AT_ONCE) yield ids.slice(at, at + AT_ONCE)
}

const keepLatestOf = (db: Db, which: Sql): Promise<number> =>
  db.tx(async (tx) => {
    const locked = await tx.rows<{ thread_id: string }>(sql`
      select thread_id from threads where ${which} order by thread_id for update`)
    const idle = await withoutRuns(tx, locked)
    await keepLatest(tx, idle)
    return idle.length
  })

/** Deletes threads, locked in the order in which everybody locks several: else two who do so could wait for each other. */
export const removeAll = (db: Db, which: Sql): Promise<{ thread_id: string }[]> =>
  db.rows(sql`with locked as materialized (select thread_id from threads where ${which} order by thread_id for update)
    delete from threads where thread_id in (select thread_id from locked) returning thread_id`)

/** What a batch of a sweep did. */
export interface Swept {
  deleted: number
  pruned: number
}

/** Ends the time of some threads, at most `limit`: deletes them, or leaves only their latest checkpoints and gives them their
 *  time anew. Passes over threads that are busy or locked. Call it again until it does nothing. */
export const sweepExpired = (db: Db, limit: number): Promise<Swept> =>
  db.tx(async (tx) => {
    const expired = await tx.rows<{ thread_id: string; strategy: string }>(sql`
      select thread_id, ttl_strategy as strategy from threads
      where expires_at <= clock_timestamp() and doomed_at is null and not ${active}
      order by expires_at limit ${Math.min(limit, AT_ONCE)}::bigint for update skip locked`)
    const idle = new Set(await withoutRuns(tx, expired))
    const ids = (strategy: string) =>
      expired.flatMap((row) => (row.strategy === strategy && idle.has(row.thread_id) ? [row.thread_id] : []))
    const gone = ids('delete')
    if (gone.length) await tx.rows(sql`delete from threads where thread_id = any(${gone}::uuid[])`)
    const pruned = ids('keep_latest')
    await keepLatest(tx, pruned)
    return { deleted: gone.length, pruned: pruned.length }
  })

/** Collects what is left over on some threads on which nothing runs; gives how many it was. Call it again until it does
 *  nothing. */
export const sweepLeftovers = (db: Db): Promise<number> =>
  db.tx(async (tx) => {
    const marked = await tx.rows<{ thread_id: string }>(sql`
      select thread_id from threads where leftovers and doomed_at is null and not ${active}
      order by thread_id limit ${AT_ONCE}::bigint for update skip locked`)
    const idle = await withoutRuns(tx, marked)
    await collect(tx, idle)
    return idle.length
  })

/** The locked threads where no run is pending or running; asked after the lock, since one may have come just before. */
async function withoutRuns(tx: Db, locked: readonly { thread_id: string }[]): Promise<string[]> {
  if (!locked.length) return []
  const ids = locked.map((row) => row.thread_id)
  const rows = await tx.rows<{ thread_id: string }>(sql`
    select thread_id from threads where thread_id = any(${ids}::uuid[]) and not ${active}`)
  return rows.map((row) => row.thread_id)
}

/** Removes all but the latest checkpoint of every namespace from locked threads, and what only the removed ones had. Of the
 *  namespaces of tasks, those stay whose task is one of the latest checkpoint: the others will never be read again. */
async function keepLatest(tx: Db, ids: readonly string[]): Promise<void> {
  if (!ids.length) return
  const mine = sql`= any(${ids}::uuid[])`
  // Where the latest checkpoint holds a channel as the changes since an older one, the older ones are needed.
  await tx.rows(sql`
    with latest as (
      select distinct on (thread_id, checkpoint_ns) thread_id, checkpoint_ns, checkpoint_id, metadata from checkpoints
      where thread_id ${mine} order by thread_id, checkpoint_ns, checkpoint_id desc
    )
    delete from checkpoints c using latest l left join latest root on root.thread_id = l.thread_id and root.checkpoint_ns = ''
    where c.thread_id = l.thread_id and c.checkpoint_ns = l.checkpoint_ns and (
      (c.checkpoint_id <> l.checkpoint_id and coalesce(l.metadata -> 'counters_since_delta_snapshot', '{}') = '{}')
      or (position(':' in l.checkpoint_ns) > 0 and l.metadata -> 'parents' ->> '' <> root.checkpoint_id))`)
  await collect(tx, ids)
  // Who read the state before may build on what is gone.
  await tx.rows(sql`update threads set expires_at = ${renewedExpiry}, epoch = epoch + 1 where thread_id ${mine}`)
}

/** Removes from locked threads the writes of checkpoints that are not there, and the values that no checkpoint has, neither
 *  by itself nor as a part of a list, and that no write was taken from or begins with. */
async function collect(tx: Db, ids: readonly string[]): Promise<void> {
  if (!ids.length) return
  const mine = sql`= any(${ids}::uuid[])`
  await tx.rows(sql`
    delete from checkpoint_writes w where w.thread_id ${mine} and not exists (
      select 1 from checkpoints c where c.thread_id = w.thread_id and c.checkpoint_ns = w.checkpoint_ns
        and c.checkpoint_id = w.checkpoint_id)`)
  await tx.rows(sql`
    with recursive has as materialized (
      select distinct c.thread_id, c.checkpoint_ns, channel, version
      from checkpoints c cross join lateral json_each_text(c.checkpoint -> 'channel_versions') as had(channel, version)
      where c.thread_id ${mine}
    ), needed(thread_id, checkpoint_ns, channel, version) as (
      (select * from has
      union select w.thread_id, w.checkpoint_ns, w.channel, w.source
        from checkpoint_writes w where w.thread_id ${mine} and w.source is not null
      union select w.thread_id, s.* from checkpoint_writes w cross join lateral (${splicedLists(sql`w.splices`)}) s
        where w.thread_id ${mine} and w.splices is not null)
      union
      select n.thread_id, s.* from needed n
        join checkpoint_values v using (thread_id, checkpoint_ns, channel, version)
        cross join lateral (select v.checkpoint_ns, v.channel, v.base where v.base is not null
          union all ${splicedLists(sql`v.splices`)}) s
    )
    delete from checkpoint_values v where v.thread_id ${mine} and not exists (
      select 1 from needed n where n.thread_id = v.thread_id and n.checkpoint_ns = v.checkpoint_ns
        and n.channel = v.channel and n.version = v.version)`)
  await tx.rows(sql`update threads set leftovers = false where thread_id ${mine} and leftovers`)
}
