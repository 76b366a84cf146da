// Assistants and their versions in SQL. In charge of the version chain (every change is a new version, one of them is
// the latest) and of what a caller may see; must never decide what a graph is.

import { ApiError } from '../errors.ts'
import type { Db } from './db.ts'
import { one } from './db.ts'
import { json } from './json.ts'
import { and, join, type Sql, sql } from './sql.ts'

/** An assistant as it is stored and as it is sent. */
export interface AssistantRow {
  assistant_id: string
  graph_id: string
  name: string
  description: string | null
  config: Record<string, unknown>
  context: unknown
  metadata: Record<string, unknown>
  version: number
  created_at: string
  updated_at: string
}
export type AssistantVersionRow = Omit<AssistantRow, 'updated_at'>
/** What a version holds, and what a change may touch. */
export type AssistantChange = Partial<
  Pick<AssistantRow, 'graph_id' | 'name' | 'description' | 'config' | 'context' | 'metadata'>
>
export interface AssistantFilter {
  graph_id?: string | undefined
  /** Found anywhere in the name, whatever the case. */
  name?: string | undefined
  metadata?: Record<string, unknown> | undefined
}
export interface AssistantPage {
  limit: number
  offset: number
  sort_by?: AssistantSort | undefined
  sort_order?: 'asc' | 'desc' | undefined
  select?: readonly AssistantField[] | undefined
}

const fields = {
  assistant_id: sql`assistant_id`,
  graph_id: sql`graph_id`,
  name: sql`name`,
  description: sql`description`,
  config: sql`config`,
  context: sql`context`,
  metadata: sql`metadata`,
  version: sql`version`,
  created_at: sql`created_at`,
  updated_at: sql`updated_at`,
}
const sorts = {
  assistant_id: sql`assistant_id`,
  graph_id: sql`graph_id`,
  name: sql`name`,
  created_at: sql`created_at`,
  updated_at: sql`updated_at`,
}
export type AssistantField = keyof typeof fields
export type AssistantSort = keyof typeof sorts

const versioned = sql`graph_id, name, description, config, context, metadata`
const columns = sql`assistant_id, ${versioned}, version, created_at, updated_at`

/** Inserts the assistant as its version 1; undefined when the id is taken. */
export const insert = (
  db: Db,
  row: Pick<AssistantRow, 'assistant_id' | 'graph_id' | 'name'> & AssistantChange,
): Promise<AssistantRow | undefined> =>
  one(
    db.rows<AssistantRow>(sql`
      with made as (
        insert into assistants (assistant_id, ${versioned}, version, created_at, updated_at)
        values (${row.assistant_id}::uuid, ${row.graph_id}, ${row.name}, ${row.description ?? null}::text,
          ${json(row.config ?? {})}::json, ${json(row.context ?? undefined)}::json, ${json(row.metadata ?? {})}::jsonb, 1,
          statement_timestamp(), statement_timestamp())
        on conflict do nothing
        returning ${columns}
      ), first as (
        insert into assistant_versions (assistant_id, ${versioned}, version, created_at)
        select assistant_id, ${versioned}, version, created_at from made
      )
      select ${columns} from made`),
  )

/** Creates an assistant. With `if_exists: 'do_nothing'` gives the one that is there, if the caller may see it; else
 *  throws `assistant_exists`. */
export async function create(
  db: Db,
  row: Parameters<typeof insert>[1],
  ifExists: 'raise' | 'do_nothing',
  visible: Sql,
): Promise<AssistantRow> {
  const made =
    (await insert(db, row)) ?? (ifExists === 'do_nothing' ? await find(db, row.assistant_id, visible) : undefined)
  if (!made) throw new ApiError('assistant_exists', `An assistant with the id ${row.assistant_id} exists already.`)
  return made
}

/** The assistant, or undefined when there is none that the caller may see. */
export const find = (db: Db, id: string, visible: Sql): Promise<AssistantRow | undefined> =>
  one(db.rows<AssistantRow>(sql`select ${columns} from assistants where assistant_id = ${id}::uuid and ${visible}`))

/** An assistant with the mark of this state of its row: whoever remembers it can ask whether it still holds. */
export type MarkedAssistant = AssistantRow & { mark: string }

export const findMarked = (db: Db, id: string, visible: Sql): Promise<MarkedAssistant | undefined> =>
  one(
    db.rows(sql`select ${columns}, xmin::text as mark from assistants where assistant_id = ${id}::uuid and ${visible}`),
  )

/** True in SQL while an assistant is as it was, and may be seen. */
export const unchanged = ({ assistant_id, mark }: MarkedAssistant, visible: Sql): Sql =>
  sql`exists (select 1 from assistants where assistant_id = ${assistant_id}::uuid and xmin::text = ${mark} and ${visible})`

/** The assistant; throws `assistant_not_found`. */
export const get = async (db: Db, id: string, visible: Sql): Promise<AssistantRow> =>
  (await find(db, id, visible)) ?? missing(id)

/** A page of assistants, and how many there are in all. */
export async function search(
  db: Db,
  filter: AssistantFilter,
  page: AssistantPage,
  visible: Sql,
): Promise<{ rows: Partial<AssistantRow>[]; total: number }> {
  const { limit, offset } = page
  const selected = page.select?.length ? join(page.select.map((field) => fields[field])) : columns
  const by = sorts[page.sort_by ?? 'created_at']
  // What came at the same moment follows its ids, which rise with time where the server gives them.
  const order = page.sort_order === 'asc' ? sql`${by} asc, assistant_id asc` : sql`${by} desc, assistant_id desc`
  const rows = await db.rows<Partial<AssistantRow>>(sql`
    select ${selected} from assistants where ${matching(filter, visible)}
    order by ${order} limit ${limit}::bigint offset ${offset}::bigint`)
  const isLast = rows.length < limit && (rows.length > 0 || offset === 0)
  return { rows, total: isLast ? offset + rows.length : await count(db, filter, visible) }
}

/** How many assistants match. */
export async function count(db: Db, filter: AssistantFilter, visible: Sql): Promise<number> {
  const row = await one(
    db.rows<{ n: number }>(sql`select count(*) as n from assistants where ${matching(filter, visible)}`),
  )
  return row?.n ?? 0
}

const matching = (filter: AssistantFilter, visible: Sql): Sql =>
  and([
    visible,
    filter.graph_id === undefined ? undefined : sql`graph_id = ${filter.graph_id}`,
    filter.name ? sql`strpos(lower(name), lower(${filter.name}::text)) > 0` : undefined,
    hasKeys(filter.metadata) ? sql`metadata @> ${json(filter.metadata)}::jsonb` : undefined,
  ])
const hasKeys = (value: object | undefined): boolean => value !== undefined && Object.keys(value).length > 0

/** Makes a new version out of the latest one and the change, and makes it the latest; metadata is merged. Throws
 *  `assistant_not_found`. */
export const update = (db: Db, id: string, change: AssistantChange, visible: Sql): Promise<AssistantRow> =>
  db.tx(async (tx) => {
    // The lock comes in a statement of its own, so that the next one sees the versions made before it was given.
    await lock(tx, id, visible)
    const set = [
      change.graph_id === undefined ? undefined : sql`graph_id = ${change.graph_id}`,
      change.name === undefined ? undefined : sql`name = ${change.name}`,
      change.description === undefined ? undefined : sql`description = ${change.description}::text`,
      change.config === undefined ? undefined : sql`config = ${json(change.config)}::json`,
      change.context === undefined ? undefined : sql`context = ${json(change.context ?? undefined)}::json`,
      change.metadata === undefined ? undefined : sql`metadata = metadata || ${json(change.metadata)}::jsonb`,
      sql`version = (select max(v.version) + 1 from assistant_versions v where v.assistant_id = ${id}::uuid)`,
      sql`updated_at = clock_timestamp()`,
    ].filter((part) => part !== undefined)
    const row = await one(
      tx.rows<AssistantRow>(sql`
        with changed as (
          update assistants set ${join(set)} where assistant_id = ${id}::uuid returning ${columns}
        ), kept as (
          insert into assistant_versions (assistant_id, ${versioned}, version)
          select assistant_id, ${versioned}, version from changed
        )
        select ${columns} from changed`),
    )
    return row ?? missing(id)
  })

/** Makes a stored version the latest again, with all that it holds. Throws `assistant_not_found`, `version_not_found`. */
export const setLatest = (db: Db, id: string, version: number, visible: Sql): Promise<AssistantRow> =>
  db.tx(async (tx) => {
    await lock(tx, id, visible)
    const row = await one(
      tx.rows<AssistantRow>(sql`
        update assistants a set graph_id = v.graph_id, name = v.name, description = v.description, config = v.config,
          context = v.context, metadata = v.metadata, version = v.version, updated_at = clock_timestamp()
        from assistant_versions v
        where a.assistant_id = ${id}::uuid and v.assistant_id = a.assistant_id and v.version = ${version}::bigint
        returning a.assistant_id, a.graph_id, a.name, a.description, a.config, a.context, a.metadata, a.version,
          a.created_at, a.updated_at`),
    )
    if (!row) throw new ApiError('version_not_found', `The assistant ${id} has no version ${version}.`)
    return row
  })

/** A page of the assistant's versions, newest first. Throws `assistant_not_found`. */
export async function versions(
  db: Db,
  id: string,
  page: { limit: number; offset: number; metadata?: Record<string, unknown> | undefined },
  visible: Sql,
): Promise<AssistantVersionRow[]> {
  const { metadata, limit, offset } = page
  const found = await db.rows<AssistantVersionRow>(sql`
    select assistant_id, ${versioned}, version, created_at from assistant_versions
    where assistant_id in (select assistant_id from assistants where assistant_id = ${id}::uuid and ${visible})
      ${hasKeys(metadata) ? sql`and metadata @> ${json(metadata)}::jsonb` : sql``}
    order by version desc limit ${limit}::bigint offset ${offset}::bigint`)
  if (!found.length) await get(db, id, visible)
  return found
}

/** Deletes the assistant with its versions; throws `assistant_not_found`. */
export async function remove(db: Db, id: string, visible: Sql): Promise<void> {
  const gone = await db.rows(sql`
    delete from assistants where assistant_id = ${id}::uuid and ${visible} returning assistant_id`)
  if (!gone.length) missing(id)
}

/** The assistant's runs that have not ended. */
export const activeRuns = (db: Db, id: string): Promise<{ run_id: string; thread_id: string }[]> =>
  db.rows(sql`
    select run_id, thread_id from runs where assistant_id = ${id}::uuid and status in ('pending', 'running')`)

/** Inserts the graphs' own assistants where they are missing, and takes over a new description where nobody has
 *  changed the assistant since. Safe for many processes at once. */
export async function ensureSystem(
  db: Db,
  rows: readonly { assistant_id: string; graph_id: string; description: string | null }[],
  config: Record<string, unknown>,
): Promise<void> {
  if (!rows.length) return
  const metadata = json({ created_by: 'system' })
  const wanted = sql`unnest(${rows.map((row) => row.assistant_id)}::uuid[], ${rows.map((row) => row.graph_id)}::text[],
    ${rows.map((row) => row.description)}::text[]) as wanted (assistant_id, graph_id, description)`
  await db.tx(async (tx) => {
    await tx.rows(sql`
      with made as (
        insert into assistants (assistant_id, ${versioned}, version)
        select assistant_id, graph_id, graph_id, description, ${json(config)}::json, null, ${metadata}::jsonb, 1
        from ${wanted} order by assistant_id
        on conflict do nothing
        returning ${columns}
      )
      insert into assistant_versions (assistant_id, ${versioned}, version, created_at)
      select assistant_id, ${versioned}, version, created_at from made`)
    await tx.rows(sql`
      with changed as (
        update assistants a set description = wanted.description, updated_at = clock_timestamp() from ${wanted}
        where a.assistant_id = wanted.assistant_id and a.version = 1 and a.metadata @> ${metadata}::jsonb
          and a.description is distinct from wanted.description
        returning a.assistant_id, a.description
      )
      update assistant_versions v set description = changed.description from changed
      where v.assistant_id = changed.assistant_id and v.version = 1`)
  })
}

async function lock(tx: Db, id: string, visible: Sql): Promise<void> {
  const rows = await tx.rows(sql`
    select assistant_id from assistants where assistant_id = ${id}::uuid and ${visible} for update`)
  if (!rows.length) missing(id)
}

function missing(id: string): never {
  throw new ApiError('assistant_not_found', `The assistant ${id} does not exist.`)
}
