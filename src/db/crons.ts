// Crons in SQL. In charge of what a caller may see of them, of who decides the slots that are due (whoever locks the row), and
// of a slot's run being written once. When a slot is, the caller says; the clock is the database's, or an argument.

import { ApiError } from '../errors.ts'
import type { Db } from './db.ts'
import { one } from './db.ts'
import { json } from './json.ts'
import { and, join, type Sql, sql } from './sql.ts'

/** A cron as it is sent. */
export interface CronRow {
  cron_id: string
  assistant_id: string
  thread_id: string | null
  on_run_completed: 'delete' | 'keep' | null
  end_time: string | null
  schedule: string
  timezone: string | null
  created_at: string
  updated_at: string
  user_id: string | null
  payload: Record<string, unknown>
  next_run_date: string | null
  metadata: Record<string, unknown>
  enabled: boolean
  disabled_reason: string | null
  last_error: string | null
}
/** A cron under its lock, with the moment of the clock. */
export interface LockedCron extends CronRow {
  last_slot: string | null
  failures: number
  now: string
}
export interface CronFilter {
  assistant_id?: string | undefined
  thread_id?: string | undefined
  enabled?: boolean | undefined
  metadata?: Record<string, unknown> | undefined
}
export interface CronPage {
  limit: number
  offset: number
  sort_by?: CronSort | undefined
  sort_order?: 'asc' | 'desc' | undefined
  select?: readonly CronField[] | undefined
}

/** The clock that decides what is due; the same for the whole of a statement, so that an index can be asked. */
export const databaseClock: Sql = sql`statement_timestamp()`

const stored = {
  cron_id: sql`cron_id`,
  assistant_id: sql`assistant_id`,
  thread_id: sql`thread_id`,
  on_run_completed: sql`on_run_completed`,
  end_time: sql`end_time`,
  schedule: sql`schedule`,
  timezone: sql`timezone`,
  created_at: sql`created_at`,
  updated_at: sql`updated_at`,
  user_id: sql`user_id`,
  payload: sql`payload`,
  next_run_date: sql`next_run_date`,
  metadata: sql`metadata`,
  enabled: sql`enabled`,
  disabled_reason: sql`disabled_reason`,
  last_error: sql`last_error`,
}
const fields = { ...stored, now: sql`statement_timestamp() as now` }
const sorts = {
  cron_id: sql`cron_id`,
  assistant_id: sql`assistant_id`,
  thread_id: sql`thread_id`,
  next_run_date: sql`next_run_date`,
  end_time: sql`end_time`,
  created_at: sql`created_at`,
  updated_at: sql`updated_at`,
}
export type CronField = keyof typeof fields
export type CronSort = keyof typeof sorts

const columns = join(Object.values(stored))
const locked = (clock: Sql): Sql => sql`${columns}, last_slot, failures, ${clock} as now`

/** What the clock says. */
export const now = async (db: Db, clock: Sql): Promise<string> =>
  (await one(db.rows<{ now: string }>(sql`select ${clock} as now`)))?.now ?? ''

type NewCron = Pick<
  CronRow,
  | 'cron_id'
  | 'assistant_id'
  | 'thread_id'
  | 'on_run_completed'
  | 'end_time'
  | 'schedule'
  | 'timezone'
  | 'payload'
  | 'metadata'
  | 'enabled'
  | 'next_run_date'
>

export const insert = async (db: Db, row: NewCron): Promise<CronRow> =>
  (await one(
    db.rows<CronRow>(sql`
      insert into crons (cron_id, assistant_id, thread_id, on_run_completed, end_time, schedule, timezone, payload, metadata,
        enabled, next_run_date, created_at, updated_at)
      values (${row.cron_id}::uuid, ${row.assistant_id}::uuid, ${row.thread_id}::uuid, ${row.on_run_completed}::text,
        ${row.end_time}::timestamptz, ${row.schedule}, ${row.timezone}::text, ${json(row.payload)}::json,
        ${json(row.metadata)}::jsonb, ${row.enabled}, ${row.next_run_date}::timestamptz, statement_timestamp(),
        statement_timestamp())
      returning ${columns}`),
  )) as CronRow

/** The cron; throws `cron_not_found`. */
export const get = async (db: Db, id: string, visible: Sql): Promise<CronRow> =>
  (await one(db.rows<CronRow>(sql`select ${columns} from crons where cron_id = ${id}::uuid and ${visible}`))) ??
  missing(id)

/** The cron, locked against its slots being decided meanwhile; throws `cron_not_found`. */
export const lock = async (db: Db, id: string, clock: Sql, visible: Sql): Promise<LockedCron> =>
  (await one(
    db.rows<LockedCron>(
      sql`select ${locked(clock)} from crons where cron_id = ${id}::uuid and ${visible} for no key update`,
    ),
  )) ?? missing(id)

/** Writes what a client may change of a locked cron. With `forgive`, what went wrong before no longer counts. */
export const update = async (
  db: Db,
  row: Omit<NewCron, 'assistant_id' | 'thread_id'> & { forgive: boolean },
): Promise<CronRow> =>
  (await one(
    db.rows<CronRow>(sql`
      update crons set on_run_completed = ${row.on_run_completed}::text, end_time = ${row.end_time}::timestamptz,
        schedule = ${row.schedule}, timezone = ${row.timezone}::text, payload = ${json(row.payload)}::json,
        metadata = ${json(row.metadata)}::jsonb, enabled = ${row.enabled}, next_run_date = ${row.next_run_date}::timestamptz,
        failures = case when ${row.forgive} then 0 else failures end,
        last_error = case when ${row.forgive} then null else last_error end,
        disabled_reason = case when ${row.forgive} then null else disabled_reason end, updated_at = clock_timestamp()
      where cron_id = ${row.cron_id}::uuid returning ${columns}`),
  )) ?? missing(row.cron_id)

/** Deletes the cron; throws `cron_not_found`. */
export async function remove(db: Db, id: string, visible: Sql): Promise<void> {
  const gone = await db.rows(sql`delete from crons where cron_id = ${id}::uuid and ${visible} returning cron_id`)
  if (!gone.length) missing(id)
}

/** A page of crons, and how many there are in all. Those without the date that is sorted by come last. */
export async function search(
  db: Db,
  filter: CronFilter,
  page: CronPage,
  visible: Sql,
): Promise<{ rows: Partial<CronRow & { now: string }>[]; total: number }> {
  const { limit, offset } = page
  const selected = page.select?.length ? join(page.select.map((field) => fields[field])) : columns
  const by = sorts[page.sort_by ?? 'created_at']
  // What has the same date follows its ids, which rise with time.
  const order =
    page.sort_order === 'asc' ? sql`${by} asc nulls last, cron_id asc` : sql`${by} desc nulls last, cron_id desc`
  const rows = await db.rows<Partial<CronRow>>(sql`
    select ${selected} from crons where ${matching(filter, visible)}
    order by ${order} limit ${limit}::bigint offset ${offset}::bigint`)
  const isLast = rows.length < limit && (rows.length > 0 || offset === 0)
  return { rows, total: isLast ? offset + rows.length : await count(db, filter, visible) }
}

/** How many crons match. */
export async function count(db: Db, filter: CronFilter, visible: Sql): Promise<number> {
  const row = await one(db.rows<{ n: number }>(sql`select count(*) as n from crons where ${matching(filter, visible)}`))
  return row?.n ?? 0
}

const matching = (filter: CronFilter, visible: Sql): Sql =>
  and([
    visible,
    filter.assistant_id === undefined ? undefined : sql`assistant_id = ${filter.assistant_id}::uuid`,
    filter.thread_id === undefined ? undefined : sql`thread_id = ${filter.thread_id}::uuid`,
    filter.enabled === undefined ? undefined : sql`enabled = ${filter.enabled}`,
    hasKeys(filter.metadata) ? sql`metadata @> ${json(filter.metadata)}::jsonb` : undefined,
  ])
const hasKeys = (value: object | undefined): boolean => value !== undefined && Object.keys(value).length > 0

// ------------------------------------------------------------------------------------------------ slots

/** Crons that a process with these graphs is to decide: all but those of graphs that only another living worker serves. */
const own = (graphIds: readonly string[]): Sql => sql`not exists (select 1 from assistants a join workers w
    on a.graph_id = any(w.graph_ids) and w.lease_until >= clock_timestamp()
  where a.assistant_id = crons.assistant_id and a.graph_id <> all(${graphIds}::text[]))`

/** Locks crons that are due, those with the oldest slots first, for one process; either those on threads, or the others. */
export const due = (
  db: Db,
  which: { onThread: boolean; limit: number; graphIds: readonly string[] },
  clock: Sql,
): Promise<LockedCron[]> =>
  db.rows(sql`select ${locked(clock)} from crons where next_run_date <= ${clock}
    and (thread_id is not null) = ${which.onThread}::boolean and ${own(which.graphIds)}
    order by next_run_date, cron_id limit ${which.limit} for no key update skip locked`)

/** Milliseconds until the next cron is due; undefined where none is to come, negative where one is due already. */
export const dueIn = async (db: Db, graphIds: readonly string[], clock: Sql): Promise<number | undefined> =>
  (
    await one(
      db.rows<{ ms: number }>(
        sql`select (extract(epoch from next_run_date - ${clock}) * 1000)::float8 as ms from crons
          where next_run_date is not null and ${own(graphIds)} order by next_run_date limit 1`,
      ),
    )
  )?.ms

/** What became of a locked cron's slot. */
export interface Decided {
  cron_id: string
  /** Null where the slot is none any more: its end has passed, or the rules of its time zone have changed. */
  slot: string | null
  run_id: string | null
  next_run_date: string | null
  /** How many slots in a row brought no run although one should have been created. */
  failures: number
  error: string | null
  /** Disables the cron. */
  disable: string | null
}

/** Writes what became of slots, each with its run. A slot that has a run already fails the transaction. */
export const decide = (db: Db, decided: readonly Decided[]): Promise<unknown> =>
  db.rows(sql`with d as (select * from unnest(${decided.map((d) => d.cron_id)}::uuid[], ${decided.map((d) => d.slot)}::timestamptz[],
        ${decided.map((d) => d.run_id)}::uuid[], ${decided.map((d) => d.next_run_date)}::timestamptz[],
        ${decided.map((d) => d.failures)}::int[], ${decided.map((d) => d.error)}::text[], ${decided.map((d) => d.disable)}::text[])
        as d (cron_id, slot, run_id, next_run_date, failures, error, disable)),
      made as (insert into cron_runs (cron_id, slot, run_id) select cron_id, slot, run_id from d where run_id is not null)
    update crons c set last_slot = coalesce(d.slot, c.last_slot), failures = d.failures, last_error = d.error,
      next_run_date = case when d.disable is null then d.next_run_date end, enabled = d.disable is null,
      disabled_reason = d.disable, updated_at = case when d.disable is null then c.updated_at else clock_timestamp() end
    from d where c.cron_id = d.cron_id`)

/** Disables the crons of an assistant that is being deleted. */
export const disableOfAssistant = (db: Db, assistantId: string, reason: string): Promise<unknown> =>
  db.rows(sql`update crons set enabled = false, next_run_date = null, disabled_reason = ${reason},
      updated_at = clock_timestamp()
    where assistant_id = ${assistantId}::uuid and enabled`)

/** Forgets the runs of slots that are long decided: which slot is the next, the cron itself knows. */
export const sweepRuns = async (db: Db, limit: number): Promise<number> =>
  (
    await db.rows(sql`delete from cron_runs where (cron_id, slot) in (select cron_id, slot from cron_runs
      where created_at < clock_timestamp() - interval '7 days' limit ${limit}) returning 1`)
  ).length

function missing(id: string): never {
  throw new ApiError('cron_not_found', `The cron ${id} does not exist.`)
}
