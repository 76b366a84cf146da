// Statements on runs: the queue and its rows. In charge of what a client reads of a run and of cancelling;
// creating is in db/new-runs.ts, claiming in db/queue.ts, everything a running run writes in db/journal.ts.

import type { MultitaskStrategy } from '../contract/runs.ts'
import { type Db, one } from './db.ts'
import { openRun, openThread } from './seal.ts'
import { and, type Sql, sql } from './sql.ts'
import { present } from './threads.ts'
import { owe } from './webhooks.ts'

export type RunStatus = 'pending' | 'running' | 'success' | 'error' | 'timeout' | 'interrupted'

export interface RunRow {
  run_id: string
  thread_id: string
  assistant_id: string
  created_at: string
  updated_at: string
  status: RunStatus
  metadata: Record<string, unknown>
  kwargs: Record<string, unknown>
  multitask_strategy: MultitaskStrategy
  cancel_reason: string | null
}

/** A thread as the run engine needs it. */
export interface LockedThread {
  thread_id: string
  config: Record<string, unknown>
  last_seq: number
  held_by: string | null
  state_updated_at: string | null
}

/** A run as the API shows it, of a table `r`. */
export const wire = sql`r.run_id, r.thread_id, r.assistant_id, r.created_at, r.updated_at, r.status, r.metadata, r.kwargs,
  r.multitask_strategy, r.cancel_reason`

/** Whose thread may be seen is asked in the same statement; the runs of a thread that is gone are gone with it. */
const seen = (visible: Sql): Sql => sql`exists (select 1 from threads where threads.thread_id = r.thread_id
  and ${present} and ${visible})`

/** Why a run waits. */
export interface Waiting {
  /** In this order where several hold: its time has not come; other runs of its thread go first; no worker is alive; every
   *  worker is busy. */
  reason: 'not_before' | 'thread_busy' | 'no_worker' | 'graph_not_served' | 'no_free_slot'
  /** How many runs of its thread go before it. */
  position: number
  /** The run at the head of its thread's line: the one that runs, else the oldest that waits. */
  behind_run_id: string | null
  /** It does not begin before this. */
  available_at: string
}

/** A run with what an operator asks: how often it was begun, why it waits, whether its worker lives. */
export interface RunView extends RunRow {
  attempt: number
  /** Of a pending run. */
  waiting: Waiting | null
  /** Of a running run: false while it waits to be rescued. */
  worker_alive: boolean | null
}

// Asked only of rows that wait or run: a run that has ended costs nothing more.
const view = sql`${wire}, r.attempt,
  case when r.status = 'running' then coalesce(
    (select w.lease_until >= clock_timestamp() from workers w where w.worker_id = r.worker_id), false) end as worker_alive,
  case when r.status = 'pending' then (select json_build_object(
      'reason', case when r.available_at > clock_timestamp() then 'not_before' when count(*) > 0 then 'thread_busy'
        else (select case when count(*) = 0 then 'no_worker' when bool_or(w.graph_ids = '{}' or r.graph_id = any(w.graph_ids))
            then 'no_free_slot' else 'graph_not_served' end
          from workers w where w.lease_until >= clock_timestamp()) end,
      'position', count(*), 'behind_run_id', (array_agg(a.run_id order by a.status = 'running' desc, a.ordinal))[1],
      'available_at', to_char(r.available_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'))
    from runs a where a.thread_id = r.thread_id and (a.status = 'running'
      or (a.status = 'pending' and a.ordinal < r.ordinal and a.available_at <= clock_timestamp()))) end as waiting`

/** The one run a statement gave, its arguments readable. */
const oneRun = async <R extends RunRow>(db: Db, rows: Promise<R[]>): Promise<R | undefined> => {
  const [row] = await rows
  return row && openRun(db, row)
}

export const look = (db: Db, threadId: string, runId: string, visible: Sql): Promise<RunView | undefined> =>
  oneRun(
    db,
    db.rows<RunView>(sql`select ${view} from runs r
      where r.run_id = ${runId} and r.thread_id = ${threadId} and ${seen(visible)}`),
  )

export const get = (db: Db, threadId: string | null, runId: string, visible: Sql): Promise<RunRow | undefined> =>
  oneRun(
    db,
    db.rows<RunRow>(sql`select ${wire} from runs r
      where r.run_id = ${runId} and (${threadId}::uuid is null or r.thread_id = ${threadId}) and ${seen(visible)}`),
  )

/** A run with its thread's result, for joining; finds temporary runs that have ended too, until they are swept. */
export const result = async (
  db: Db,
  threadId: string | null,
  runId: string,
  visible: Sql,
): Promise<RunResult | undefined> => {
  const row = await one(
    db.rows<RunResult>(sql`select r.run_id, r.thread_id, r.status, r.error, r.temporary, threads.values, threads.interrupts,
        threads.last_seq
      from runs r join threads using (thread_id)
      where r.run_id = ${runId} and (${threadId}::uuid is null or r.thread_id = ${threadId}) and ${visible}`),
  )
  return row && openThread(db, row, row.thread_id)
}

export interface RunResult {
  run_id: string
  thread_id: string
  status: RunStatus
  error: { error: string; message: string } | null
  temporary: boolean
  values: unknown
  interrupts: Record<string, unknown[]>
  last_seq: number
}

/** Newest first. */
export const list = async (
  db: Db,
  threadId: string,
  filter: { status?: string; limit: number; offset: number },
  visible: Sql,
): Promise<RunView[]> => {
  const rows = await db.rows<RunView>(sql`select ${view} from runs r
    where r.thread_id = ${threadId} and ${filter.status === undefined ? sql`true` : sql`r.status = ${filter.status}`}
      and ${seen(visible)}
    order by r.ordinal desc limit ${filter.limit} offset ${filter.offset}`)
  return rows.map((row) => openRun(db, row))
}

/** Those among some runs that have ended; `removed` for one that was rolled back or deleted. */
export const ended = (
  db: Db,
  runIds: readonly string[],
): Promise<{ run_id: string; status: RunStatus | 'removed' }[]> =>
  db.rows(sql`select n.run_id, coalesce(r.status, 'removed') as status from unnest(${runIds}::uuid[]) as n(run_id)
    left join runs r on r.run_id = n.run_id where r.status is null or r.status not in ('pending', 'running')`)

/** Locks the thread for a decision about its runs. The lock admits foreign keys and readers. */
export const lockThread = (db: Db, threadId: string, visible: Sql): Promise<LockedThread | undefined> =>
  one(
    db.rows(sql`select thread_id, config, last_seq, held_by, state_updated_at from threads
      where thread_id = ${threadId} and ${present} and ${visible} for no key update`),
  )

export interface ActiveRun {
  run_id: string
  status: 'pending' | 'running'
  cancel_action: string | null
  /** Its thread goes with it. */
  temporary: boolean
  /** False when the worker that holds it has let its lease run out. */
  alive: boolean
  /** False for one that waits for its time, and lets others go first. */
  due: boolean
  /** It was started before, and may have left checkpoints. */
  begun: boolean
}

/** The thread's runs that have not ended, oldest first. Ask under the thread's lock. */
export const active = (db: Db, threadId: string): Promise<ActiveRun[]> =>
  db.rows(sql`select r.run_id, r.status, r.cancel_action, r.temporary,
      coalesce((select w.lease_until >= clock_timestamp() from workers w where w.worker_id = r.worker_id), false) as alive,
      r.status = 'running' or r.available_at <= clock_timestamp() as due, r.started_at is not null as begun
    from runs r where r.thread_id = ${threadId} and r.status in ('pending', 'running') order by r.ordinal`)

/** Temporary threads whose runs, the rows of `r`, will never run. */
const doomed = sql`doomed as (update threads set doomed_at = clock_timestamp() from r
  where threads.thread_id = r.thread_id and r.temporary)`

/** Ends runs that wait; gives those that were indeed waiting. Under the thread's lock. */
export const interruptPending = (db: Db, runIds: readonly string[], reason: string): Promise<{ run_id: string }[]> =>
  db.rows(sql`with r as (update runs set status = 'interrupted', cancel_reason = ${reason}, ended_at = clock_timestamp(),
      updated_at = clock_timestamp()
      where run_id = any(${runIds}::uuid[]) and status = 'pending' returning *),
    ${doomed}, owed as (${owe(sql`r`)}) select run_id from r`)

/** Removes runs that wait, as rollback does. Under the thread's lock. */
export const deletePending = (db: Db, runIds: readonly string[]): Promise<{ run_id: string }[]> =>
  db.rows(sql`with r as (delete from runs where run_id = any(${runIds}::uuid[]) and status = 'pending'
      returning run_id, thread_id, temporary),
    ${doomed} select run_id from r`)

/** Records the wish to stop running runs; a rollback asked for once stays a rollback. */
export const wishCancel = (
  db: Db,
  runIds: readonly string[],
  action: string,
  reason: string,
): Promise<{ run_id: string }[]> =>
  db.rows(sql`update runs set cancel_action = case when cancel_action = 'rollback' then 'rollback' else ${action} end,
      cancel_reason = coalesce(cancel_reason, ${reason}), updated_at = clock_timestamp()
    where run_id = any(${runIds}::uuid[]) and status = 'running' returning run_id`)

/** Removes a run that has ended, with its events (its checkpoints are the thread's history and stay). */
export const remove = (db: Db, runId: string): Promise<{ run_id: string }[]> =>
  db.rows(sql`with gone as (delete from runs where run_id = ${runId} and status not in ('pending', 'running')
      returning run_id),
    e as (delete from events where run_id in (select run_id from gone))
    select run_id from gone`)

/** The runs a bulk cancel means: by status, or by ids on a thread. */
export const toCancel = (
  db: Db,
  which: { status: 'pending' | 'running' | 'all' } | { thread_id: string; run_ids: readonly string[] },
  visible: Sql,
): Promise<{ run_id: string; thread_id: string; status: RunStatus }[]> =>
  db.rows(
    sql`select r.run_id, r.thread_id, r.status from runs r where ${and([
      'status' in which
        ? which.status === 'all'
          ? sql`r.status in ('pending', 'running')`
          : sql`r.status = ${which.status}`
        : sql`r.thread_id = ${which.thread_id} and r.run_id = any(${which.run_ids}::uuid[])`,
      seen(visible),
    ])} order by r.ordinal`,
  )

/** Removes a run that has ended but not its events, so that the thread's log has no gap. Its webhook hears nothing of it. */
export const removeKeepingLog = (db: Db, runId: string): Promise<unknown> =>
  db.rows(sql`with gone as (delete from runs where run_id = ${runId} and status not in ('pending', 'running') returning run_id)
    delete from webhook_deliveries where run_id in (select run_id from gone)`)
