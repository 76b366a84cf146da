// Claiming, leases and rescue. In charge of who may run what: every statement here changes an owner, and bumps the
// thread's epoch when it does, so that the owner before can write nothing more.

import { type Db, one } from './db.ts'
import { json } from './json.ts'
import { names, openRun, sealText } from './seal.ts'
import { type Sql, sql } from './sql.ts'
import { owe } from './webhooks.ts'

/** A run this worker owns now. */
export interface Claimed {
  run_id: string
  thread_id: string
  assistant_id: string
  graph_id: string
  attempt: number
  metadata: Record<string, unknown>
  kwargs: Record<string, unknown>
  temporary: boolean
  /** It was started before, whether or not that was charged. */
  begun: boolean
  /** It was in an executor that died of nobody knows which run, and is to run alone. A new run is none. */
  suspect?: boolean
  epoch: number
  last_seq: number
  state_updated_at: string | null
  waited_ms: number
}

/** Takes a worker's lease, or renews it, and says which graphs it serves; gives when it ends. A worker whose lease has run
 *  out must not renew it. */
export const renew = (
  db: Db,
  workerId: string,
  leaseSeconds: number,
  graphIds: readonly string[],
): Promise<{ lease_until: string } | undefined> =>
  one(
    db.rows(sql`insert into workers as w (worker_id, lease_until, graph_ids)
      values (${workerId}, clock_timestamp() + make_interval(secs => ${leaseSeconds}::float8), ${graphIds}::text[])
      on conflict (worker_id) do update set lease_until = excluded.lease_until, graph_ids = excluded.graph_ids
      returning lease_until`),
  )

/** Gives a worker's lease back, so that the runs it still holds are rescued at once. */
export const leave = (db: Db, workerId: string): Promise<unknown> =>
  db.rows(sql`delete from workers where worker_id = ${workerId}`)

/** Claims at most `limit` runs of these graphs that wait, in order of creation, one per thread, charging the attempt. */
export const claim = async (
  db: Db,
  workerId: string,
  limit: number,
  graphIds: readonly string[],
): Promise<Claimed[]> => {
  const rows = await db.rows<Claimed>(claimQuery(workerId, limit, graphIds))
  return rows.map((row) => openRun(db, row))
}

/** Run and thread are locked and the holder is written on the thread in the same statement: `skip locked` alone lets two
 *  claimers in. `= any(array[…])` can be followed from the run to the thread only: a database without statistics would go
 *  over all threads. */
export const claimQuery = (workerId: string, limit: number, graphIds: readonly string[]): Sql =>
  sql`with next as (
      select r.run_id, r.thread_id, r.started_at is not null as begun from runs r
        join threads t on t.thread_id = any(array[r.thread_id])
      where r.status = 'pending' and r.available_at <= clock_timestamp() and t.held_by is null
        and r.graph_id = any(${graphIds}::text[])
        and not exists (select 1 from runs earlier where earlier.thread_id = r.thread_id and earlier.status in ('pending', 'running')
          and earlier.ordinal < r.ordinal and earlier.available_at <= clock_timestamp())
      order by r.ordinal limit ${limit} for no key update of t, r skip locked),
    held as (update threads t set held_by = next.run_id, epoch = t.epoch + 1 from next
      where t.thread_id = any(array[next.thread_id]) and t.held_by is null
      returning t.thread_id, t.epoch, t.state_updated_at, greatest(t.last_seq,
        coalesce((select max(e.last_seq) from events e where e.thread_id = t.thread_id), 0)) as last_seq),
    claimed as (update runs r set status = 'running', worker_id = ${workerId}, attempt = r.attempt + 1, updated_at = clock_timestamp(),
      started_at = coalesce(r.started_at, clock_timestamp())
    from next join held on held.thread_id = next.thread_id where r.run_id = next.run_id and r.status = 'pending'
    returning r.ordinal, r.run_id, r.thread_id, r.assistant_id, r.graph_id, r.attempt, r.metadata, r.kwargs, r.temporary,
      next.begun, r.suspect, held.epoch, held.last_seq, held.state_updated_at,
      (extract(epoch from clock_timestamp() - greatest(r.available_at, r.created_at)) * 1000)::float8 as waited_ms)
    select * from claimed order by ordinal`

/** True while any run of these graphs waits, whether or not it may start now. */
export const anyWaiting = async (db: Db, graphIds: readonly string[]): Promise<boolean> =>
  (await db.rows(sql`select 1 from runs where status = 'pending' and graph_id = any(${graphIds}::text[]) limit 1`))
    .length > 0

/** The runs that a worker holds. */
export const heldBy = (db: Db, workerId: string): Promise<{ run_id: string }[]> =>
  db.rows(sql`select run_id from runs where worker_id = ${workerId} and status = 'running'`)

/** Takes runs from a worker that holds them and does not run them: they are now of one that does not live, and are rescued. */
export const disown = (db: Db, workerId: string, runIds: readonly string[]): Promise<{ run_id: string }[]> =>
  db.rows(sql`update runs set worker_id = gen_random_uuid()
    where run_id = any(${runIds}::uuid[]) and worker_id = ${workerId} and status = 'running' returning run_id`)

/** Wishes to cancel among a worker's runs, for when the message was lost. */
export const wishes = (
  db: Db,
  workerId: string,
): Promise<{ run_id: string; cancel_action: 'interrupt' | 'rollback' }[]> =>
  db.rows(sql`select run_id, cancel_action from runs
    where worker_id = ${workerId} and status = 'running' and cancel_action is not null`)

export interface Abandoned {
  run_id: string
  thread_id: string
  epoch: number
  attempt: number
  temporary: boolean
  cancel_action: 'interrupt' | 'rollback' | null
}

/** Locks runs whose worker has let its lease run out, with their threads, for one rescuer; passes over some. */
export const abandoned = (db: Db, limit: number, except: readonly string[] = []): Promise<Abandoned[]> =>
  db.rows(sql`select r.run_id, r.thread_id, t.epoch, r.attempt, r.temporary, r.cancel_action
    from runs r join threads t on t.thread_id = r.thread_id
    where r.status = 'running' and not exists (select 1 from workers w
      where w.worker_id = r.worker_id and w.lease_until >= clock_timestamp()) and r.run_id <> all(${except}::uuid[])
    limit ${limit} for no key update of t, r skip locked`)

/** Puts running runs back into the queue, if they are still held at that epoch, and moves the epoch on. `uncharge`
 *  gives the attempt back; `suspect` has them run alone from now on. The thread keeps the last event id given out, since the
 *  run may be deleted with its events while it waits. */
export const requeue = (
  db: Db,
  held: readonly { run_id: string; thread_id: string; epoch: number }[],
  options: { uncharge: boolean; suspect?: boolean },
): Promise<{ run_id: string }[]> =>
  db.rows(sql`with t as (update threads t set held_by = null, epoch = t.epoch + 1,
        last_seq = greatest(t.last_seq, (select max(e.last_seq) from events e where e.thread_id = t.thread_id))
      from unnest(${held.map((h) => h.thread_id)}::uuid[], ${held.map((h) => h.run_id)}::uuid[],
        ${held.map((h) => h.epoch)}::bigint[]) as n(thread_id, run_id, epoch)
      where t.thread_id = n.thread_id and t.held_by = n.run_id and t.epoch = n.epoch returning n.run_id)
    update runs r set status = 'pending', worker_id = null, updated_at = clock_timestamp(),
      attempt = r.attempt - ${options.uncharge ? 1 : 0}::int, suspect = r.suspect or ${options.suspect ?? false}::boolean
    from t where r.run_id = t.run_id and r.status = 'running' returning r.run_id`)

/** Ends a running run without its worker (dead, or out of attempts), under the thread's lock, and moves the epoch on. */
export const end = async (
  db: Db,
  runId: string,
  how: {
    status: 'error' | 'interrupted'
    error: unknown
    reason: string | null
    doom: boolean
    /** What the thread's log says of it. */
    last: { batch: string; count: number }
  },
): Promise<{ run_id: string }[]> => {
  const batch = db.seal === undefined ? how.last.batch : await sealedLast(db, runId, how.last.batch)
  return db.rows(sql`with t as (update threads t set held_by = null, epoch = epoch + 1, updated_at = clock_timestamp(),
        last_seq = ${how.last.count}::int
          + greatest(t.last_seq, (select max(e.last_seq) from events e where e.thread_id = t.thread_id)),
        state_updated_at = coalesce(t.state_updated_at, clock_timestamp()),
        leftovers = true, settled_status = case when ${how.status} = 'error' then 'error' else t.settled_status end,
        error = case when ${how.status} = 'error' then ${json(how.error)}::json else t.error end,
        doomed_at = case when ${how.doom} then clock_timestamp() else t.doomed_at end
      where t.held_by = ${runId} returning t.thread_id, t.last_seq),
    e as (insert into events (thread_id, first_seq, last_seq, run_id, batch)
      select t.thread_id, t.last_seq - ${how.last.count}::int + 1, t.last_seq, ${runId}, ${batch} from t),
    r as (update runs set status = ${how.status}, error = ${json(how.error)}::json, worker_id = null,
      cancel_reason = coalesce(cancel_reason, ${how.reason}), ended_at = clock_timestamp(), updated_at = clock_timestamp()
    where run_id = ${runId} and status = 'running' returning *),
    owed as (${owe(sql`r`)})
    select run_id from r`)
}

/** Where the log of the run's thread goes on is in the name of the row. The caller's lock holds it still. */
async function sealedLast(db: Db, runId: string, batch: string): Promise<string> {
  const at = await one(
    db.rows<{ thread_id: string; first_seq: number }>(sql`select t.thread_id, 1
        + greatest(t.last_seq, (select max(e.last_seq) from events e where e.thread_id = t.thread_id)) as first_seq
      from threads t where t.held_by = ${runId}`),
  )
  return at === undefined ? batch : sealText(db, batch, names.events(at.thread_id, { run_id: runId, ...at }))
}

/** Locks the thread if the run still holds it at that epoch. */
export const lockHeld = (db: Db, held: { run_id: string; thread_id: string; epoch: number }): Promise<unknown[]> =>
  db.rows(sql`select 1 from threads where thread_id = ${held.thread_id} and held_by = ${held.run_id}
    and epoch = ${held.epoch} for no key update`)

/** Forgets every worker, for an embedded database whose lock says that no other process lives. */
export const forgetWorkers = (db: Db): Promise<unknown> => db.rows(sql`delete from workers`)

/** Deletes temporary threads whose run ended a while ago, in a small batch. */
export const sweepDoomed = async (db: Db, seconds: number, limit: number): Promise<number> =>
  (
    await db.rows(sql`delete from threads where thread_id in (select thread_id from threads
      where doomed_at < clock_timestamp() - make_interval(secs => ${seconds}::float8) limit ${limit} for update skip locked)
      returning 1`)
  ).length

/** Forgets workers whose leases ended long ago. */
export const sweepWorkers = (db: Db): Promise<unknown> =>
  db.rows(sql`delete from workers where lease_until < clock_timestamp() - interval '1 hour'`)
