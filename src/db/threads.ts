// Threads in SQL: create, read, find, change, delete, copy. In charge of what a caller may see (a doomed thread is seen by
// nobody) and of deriving 'busy' from the runs; must never store it.

import { ApiError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Db } from './db.ts'
import { one } from './db.ts'
import { together } from './gather.ts'
import { json } from './json.ts'
import { wholeMetadata } from './metadata.ts'
import { resealCopy } from './reseal.ts'
import { openThread } from './seal.ts'
import { and, join, type Sql, sql } from './sql.ts'

export type ThreadStatus = 'idle' | 'busy' | 'interrupted' | 'error'
export interface ThreadTtl {
  strategy: 'delete' | 'keep_latest'
  /** Minutes. */
  ttl: number
}
/** A thread as it is sent; `values` is null until a run or an update gave it some. */
export interface ThreadRow {
  thread_id: string
  created_at: string
  updated_at: string
  state_updated_at: string | null
  metadata: Record<string, unknown>
  config: Record<string, unknown>
  status: ThreadStatus
  values: unknown
  interrupts: Record<string, unknown[]>
  error: unknown
  /** Only where it was asked for; null when the thread has none. */
  ttl?: { strategy: ThreadTtl['strategy']; ttl_minutes: number; expires_at: string } | null
  extracted?: Record<string, unknown>
}
export interface ThreadFilter {
  ids?: readonly string[] | undefined
  metadata?: Record<string, unknown> | undefined
  values?: Record<string, unknown> | undefined
  status?: ThreadStatus | undefined
}
export interface ThreadPage {
  limit: number
  offset: number
  sort_by?: ThreadSort | undefined
  sort_order?: 'asc' | 'desc' | undefined
  select?: readonly ThreadField[] | undefined
  /** Alias to the steps of a path whose first one is a root: values, metadata, config or interrupts. */
  extract?: Readonly<Record<string, readonly (string | number)[]>> | undefined
}

/** True for threads with a pending or running run. */
const busy = sql`exists (select 1 from runs r where r.thread_id = threads.thread_id and r.status in ('pending', 'running'))`
/** True for a thread that anybody may see. One that is to be deleted is gone when its time is over, whenever it is swept. */
export const present = sql`doomed_at is null and (expires_at is null or expires_at > statement_timestamp()
  or ttl_strategy is distinct from 'delete' or ${busy})`
const byId = (id: string, visible: Sql): Sql => sql`thread_id = ${id}::uuid and ${present} and ${visible}`
/** Every change of a thread moves its end on; null stays null. */
export const renewedExpiry: Sql = sql`clock_timestamp() + make_interval(secs => ttl_minutes * 60)`

const fields = {
  thread_id: sql`thread_id`,
  created_at: sql`created_at`,
  updated_at: sql`updated_at`,
  state_updated_at: sql`coalesce(state_updated_at, created_at) as state_updated_at`,
  metadata: sql`metadata`,
  config: sql`config`,
  context: sql`config -> 'context' as context`,
  status: sql`case when ${busy} then 'busy' else settled_status end as status`,
  values: sql`"values"`,
  interrupts: sql`interrupts`,
  error: sql`error`,
}
const { context: _, ...shown } = fields
const columns = join(Object.values(shown))
const ttl = sql`case when ttl_strategy is not null then
  json_build_object('strategy', ttl_strategy, 'ttl_minutes', ttl_minutes, 'expires_at', expires_at) end as ttl`
const sorts = {
  thread_id: sql`thread_id`,
  created_at: sql`created_at`,
  updated_at: sql`updated_at`,
  state_updated_at: sql`coalesce(state_updated_at, created_at)`,
  status: sql`case when ${busy} then 'busy' else settled_status end`,
}
const roots = {
  values: sql`("values"::jsonb)`,
  metadata: sql`metadata`,
  config: sql`(config::jsonb)`,
  interrupts: sql`(interrupts::jsonb)`,
}
export type ThreadField = keyof typeof fields
export type ThreadSort = keyof typeof sorts

interface NewThread {
  thread_id: string
  metadata?: Record<string, unknown> | undefined
  ttl?: ThreadTtl | null | undefined
  /** Nobody else can know the id. Then the thread may be made together with others: a statement waits for whoever has an id. */
  isNew?: boolean
}

/** Creates a thread. With `if_exists: 'do_nothing'` gives the one that is there, if the caller may see it; else throws
 *  `thread_exists`. */
export async function create(
  db: Db,
  row: NewThread,
  ifExists: 'raise' | 'do_nothing',
  visible: Sql,
): Promise<ThreadRow> {
  const made = (await insert(db, row)) ?? ((await removeExpired(db, row.thread_id)) ? await insert(db, row) : undefined)
  const thread = made ?? (ifExists === 'do_nothing' ? await find(db, row.thread_id, visible) : undefined)
  if (!thread) throw new ApiError('thread_exists', `A thread with the id ${row.thread_id} exists already.`)
  return thread
}

const insert = (db: Db, { thread_id, metadata = {}, ttl, isNew }: NewThread): Promise<ThreadRow | undefined> => {
  const text = json(metadata) as string
  return together(isNew ? db : {}, {
    kind: JSON.stringify(['thread', ttl]),
    name: thread_id,
    item: { thread_id, text },
    size: text.length,
    send: async (of) => {
      const ids = of.map(({ thread_id }) => thread_id)
      const made = await db.rows<ThreadRow>(sql`
        insert into threads (thread_id, metadata, ttl_strategy, ttl_minutes, expires_at, created_at, updated_at)
        select n.thread_id, n.metadata::jsonb, ${timeToLive(ttl)}, statement_timestamp(), statement_timestamp()
        from unnest(${ids}::uuid[], ${of.map(({ text }) => text)}::text[]) as n(thread_id, metadata) order by n.thread_id
        on conflict do nothing
        returning ${columns}`)
      return new Map(made.map((row) => [row.thread_id, row]))
    },
  })
}

/** The values of ttl_strategy, ttl_minutes and expires_at for a thread whose time begins now. */
export const timeToLive = (given: ThreadTtl | null | undefined): Sql => {
  const minutes = given?.ttl ?? null
  return sql`${given?.strategy ?? null}::text, ${minutes}::float8,
    clock_timestamp() + make_interval(secs => ${minutes}::float8 * 60)`
}

/** Deletes the thread if its time is over, so that its id can be used again; says whether it did. */
export const removeExpired = (db: Db, id: string): Promise<boolean> =>
  db.tx(async (tx) => {
    const over = sql`thread_id = ${id}::uuid and doomed_at is null and not (${present})`
    // A run may come just before the lock is had: the second statement sees it.
    await tx.rows(sql`select 1 from threads where ${over} for update`)
    return (await tx.rows(sql`delete from threads where ${over} returning 1`)).length > 0
  })

/** The thread, or undefined when there is none that the caller may see. */
export const find = (
  db: Db,
  id: string,
  visible: Sql,
  include: { ttl?: boolean } = {},
): Promise<ThreadRow | undefined> =>
  oneThread(db, sql`select ${include.ttl ? sql`${columns}, ${ttl}` : columns} from threads where ${byId(id, visible)}`)

/** The one thread a statement gives, its values readable. */
async function oneThread(db: Db, query: Sql): Promise<ThreadRow | undefined> {
  const [row] = await db.rows<ThreadRow>(query)
  return row && openThread(db, row, row.thread_id)
}

/** The thread; throws `thread_not_found`. */
export const get = async (db: Db, id: string, visible: Sql, include: { ttl?: boolean } = {}): Promise<ThreadRow> =>
  (await find(db, id, visible, include)) ?? missing(id)

/** A page of threads, and how many there are in all. */
export async function search(
  db: Db,
  filter: ThreadFilter,
  page: ThreadPage,
  visible: Sql,
): Promise<{ rows: Partial<ThreadRow>[]; total: number }> {
  const { limit, offset } = page
  const by = sorts[page.sort_by ?? 'created_at']
  // What came at the same moment follows its ids, which rise with time where the server gives them.
  const order = page.sort_order === 'asc' ? sql`${by} asc, thread_id asc` : sql`${by} desc, thread_id desc`
  if (db.seal !== undefined) refuseToLookInside(filter, page)
  const found = await db.rows<Partial<ThreadRow> & { id: string }>(sql`
    select ${selected(page)}, thread_id as id from threads where ${matching(filter, visible)}
    order by ${order} limit ${limit}::bigint offset ${offset}::bigint`)
  const rows = found.map(({ id, ...row }) => openThread(db, row, id))
  // A page that is not full says itself how many there are; only then is counting them saved.
  const isLast = rows.length < limit && (rows.length > 0 || offset === 0)
  return { rows, total: isLast ? offset + rows.length : await count(db, filter, visible) }
}

/** What is encrypted cannot be asked for by what it holds. */
function refuseToLookInside(filter: ThreadFilter, page?: ThreadPage): void {
  const root = Object.values(page?.extract ?? {}).find(([root]) => root === 'values' || root === 'interrupts')?.[0]
  const part = hasKeys(filter.values) ? 'values' : root
  if (part === undefined) return
  throw new ApiError(
    'not_supported',
    `The ${part} of threads are encrypted on this server: ask for threads by metadata, and read ${part} from what comes.`,
  )
}

function selected(page: ThreadPage): Sql {
  const chosen = page.select?.length ? join(page.select.map((field) => fields[field])) : columns
  const extracts = Object.entries(page.extract ?? {})
  if (!extracts.length) return chosen
  const pairs = extracts.map(([alias, [root, ...steps]]) => {
    const from = roots[root as keyof typeof roots]
    return sql`${alias}::text, ${from} #> ${steps.map(String)}::text[]`
  })
  return sql`${chosen}, jsonb_build_object(${join(pairs)}) as extracted`
}

/** How many threads match. */
export async function count(db: Db, filter: ThreadFilter, visible: Sql): Promise<number> {
  if (db.seal !== undefined) refuseToLookInside(filter)
  const row = await one(
    db.rows<{ n: number }>(sql`select count(*) as n from threads where ${matching(filter, visible)}`),
  )
  return row?.n ?? 0
}

function matching(filter: ThreadFilter, visible: Sql): Sql {
  const { ids, metadata, values, status } = filter
  return and([
    present,
    visible,
    ids && sql`thread_id = any(${ids}::uuid[])`,
    hasKeys(metadata) ? sql`metadata @> ${json(metadata)}::jsonb` : undefined,
    hasKeys(values) ? sql`"values"::jsonb @> ${json(values)}::jsonb` : undefined,
    status === undefined ? undefined : status === 'busy' ? busy : sql`settled_status = ${status} and not ${busy}`,
  ])
}
const hasKeys = (value: object | undefined): boolean => value !== undefined && Object.keys(value).length > 0

/** Merges metadata, sets the time to live where given, and moves the end on. Throws `thread_not_found`. */
export async function update(
  db: Db,
  id: string,
  change: { metadata?: Record<string, unknown> | undefined; ttl?: ThreadTtl | null | undefined },
  visible: Sql,
): Promise<ThreadRow> {
  const expiry =
    change.ttl === undefined
      ? sql`expires_at = ${renewedExpiry}`
      : sql`(ttl_strategy, ttl_minutes, expires_at) = (${timeToLive(change.ttl)})`
  const row = await oneThread(
    db,
    sql`
      update threads set metadata = metadata || ${json(change.metadata ?? {})}::jsonb, ${expiry},
        updated_at = clock_timestamp()
      where ${byId(id, visible)}
      returning ${columns}`,
  )
  return row ?? missing(id)
}

/** Deletes the thread with all it has; a run that is under way loses its claim with it. Throws `thread_not_found`. */
export async function remove(db: Db, id: string, visible: Sql): Promise<void> {
  const gone = await db.rows(sql`delete from threads where ${byId(id, visible)} returning thread_id`)
  if (!gone.length) missing(id)
}

/** Deletes the threads that were made for an assistant, as their metadata says; gives their ids. */
export const removeOfAssistant = async (db: Db, assistantId: string, visible: Sql): Promise<string[]> =>
  (
    await db.rows<{ thread_id: string }>(sql`
      with locked as materialized (select thread_id from threads
        where metadata @> ${json({ assistant_id: assistantId })}::jsonb and ${present} and ${visible}
        order by thread_id for update)
      delete from threads where thread_id in (select thread_id from locked) returning thread_id`)
  ).map((row) => row.thread_id)

/** Copies the thread with its checkpoints, values and writes under a new id, at any time; runs and events stay behind. Its
 *  time to live is that of the source, or else `ttl`. Throws `thread_not_found`. */
export const copy = (db: Db, id: string, visible: Sql, ttl?: ThreadTtl): Promise<ThreadRow> => {
  const to = newId()
  if (db.seal === undefined) return copyRows(db, id, to, visible, ttl)
  return db.tx(async (tx) => {
    await copyRows(tx, id, to, visible, ttl)
    await resealCopy(tx, id, to)
    return get(tx, to, visible)
  })
}

async function copyRows(db: Db, id: string, to: string, visible: Sql, ttl?: ThreadTtl): Promise<ThreadRow> {
  const minutes = sql`coalesce(ttl_minutes, ${ttl?.ttl ?? null}::float8)`
  const from = sql`from made, source`
  // One statement sees one moment of the source, even while a run writes to it.
  const row = await one(
    db.rows<ThreadRow>(sql`
      with source as (
        select * from threads where ${byId(id, visible)}
      ), made as (
        insert into threads (thread_id, metadata, config, settled_status, "values", interrupts, error, state_updated_at,
          ttl_strategy, ttl_minutes, expires_at)
        select ${to}::uuid, metadata || jsonb_build_object('thread_id', ${to}::text), config, settled_status, "values",
          interrupts, error, state_updated_at, coalesce(ttl_strategy, ${ttl?.strategy ?? null}::text), ${minutes},
          clock_timestamp() + make_interval(secs => ${minutes} * 60)
        from source
        returning ${columns}
      ), points as (
        insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata, created_at)
        select ${to}::uuid, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint, ${wholeMetadata}, c.created_at
        ${from} join checkpoints c on c.thread_id = source.thread_id
      ), copied as (
        insert into checkpoint_values (thread_id, checkpoint_ns, channel, version, type, bytes, chain, position, base,
          splices)
        select ${to}::uuid, v.checkpoint_ns, v.channel, v.version, v.type, v.bytes, v.chain, v.position, v.base,
          v.splices
        ${from} join checkpoint_values v on v.thread_id = source.thread_id
      ), written as (
        insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, task_path, type, bytes,
          source, splices)
        select ${to}::uuid, w.checkpoint_ns, w.checkpoint_id, w.task_id, w.idx, w.channel, w.task_path, w.type, w.bytes,
          w.source, w.splices
        ${from} join checkpoint_writes w on w.thread_id = source.thread_id
      )
      select * from made`),
  )
  return row ?? missing(id)
}

function missing(id: string): never {
  throw new ApiError('thread_not_found', `The thread ${id} does not exist.`)
}
