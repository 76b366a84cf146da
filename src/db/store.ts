// The store's items in SQL. In charge of the meaning of namespaces (compared label by label, literally) and of the time to
// live (an expired item is not there). Keys and values are always bound.

import { ApiError } from '../errors.ts'
import type { StoreOp } from '../executor/protocol.ts'
import type { Db } from './db.ts'
import { conditions } from './filters.ts'
import { json } from './json.ts'
import { inOrder } from './ordered.ts'
import { current, rebuilt, type VectorIndex } from './semantic.ts'
import { adHoc, all, and, join, type Sql, sql } from './sql.ts'
import { type ItemRow, nearest, type TextVector, write } from './vectors.ts'

export type { ItemRow } from './vectors.ts'

/** An operation with what the semantic index needs for it: the vectors of a put, or that of a search. */
export type IndexedOp =
  | Exclude<StoreOp, { op: 'put' | 'search' }>
  | (Extract<StoreOp, { op: 'put' }> & { vectors?: readonly TextVector[] })
  | (Extract<StoreOp, { op: 'search' }> & { vector?: Uint8Array })
type Op<K extends StoreOp['op']> = Extract<IndexedOp, { op: K }>

const columns = sql`namespace, key, value, created_at, updated_at`
const live = sql`(expires_at is null or expires_at > statement_timestamp())`
const renewed = sql`clock_timestamp() + make_interval(secs => ttl_minutes * 60)`

/** Does the operations as if one after the other, and all or none; one result each: the item or null, null for a put,
 *  the items of a search, the namespaces of a listing. Throws `validation_failed` for a namespace, key or filter that
 *  cannot be, `conflict` where `index` is not the one that is there. Reads renew the time to live unless they say otherwise. */
export async function batch(db: Db, ops: readonly IndexedOp[], visible: Sql, index?: VectorIndex): Promise<unknown[]> {
  for (const op of ops) check(op)
  const [first, ...others] = grouped(ops)
  if (!first) return []
  const isOneStatement = first[0]?.op !== 'put' || (first.length === 1 && !index)
  if (others.length === 0 && isOneStatement) return perform(db, first, visible, index)
  return db.tx(async (tx) => {
    const results: Promise<unknown[]>[] = []
    for (const group of [first, ...others]) {
      // Each is one statement, so they can all be on their way at once; the other one is several.
      const several = group[0]?.op === 'search' && group[0].vector !== undefined
      if (several) await Promise.all(results)
      const result = perform(tx, group, visible, index)
      result.catch(() => {})
      results.push(result)
      if (several) await result
    }
    return (await Promise.all(results)).flat()
  })
}

/** Stores an item. */
export const put = async (db: Db, item: Omit<Op<'put'>, 'op'>, visible: Sql): Promise<void> =>
  void (await batch(db, [{ op: 'put', ...item }], visible))

/** Deletes an item, if it is there. */
export const remove = async (db: Db, address: { namespace: string[]; key: string }, visible: Sql): Promise<void> =>
  void (await batch(db, [{ op: 'put', ...address, value: null }], visible))

/** The item, or null. */
export const get = async (db: Db, wanted: Omit<Op<'get'>, 'op'>, visible: Sql): Promise<ItemRow | null> =>
  (await batch(db, [{ op: 'get', ...wanted }], visible))[0] as ItemRow | null

/** The items under a namespace, the latest changed first. */
export const search = async (db: Db, wanted: Omit<Op<'search'>, 'op'>, visible: Sql): Promise<ItemRow[]> =>
  (await batch(db, [{ op: 'search', ...wanted }], visible))[0] as ItemRow[]

/** The namespaces that have items, in order. */
export const namespaces = async (db: Db, wanted: Omit<Op<'namespaces'>, 'op'>, visible: Sql): Promise<string[][]> =>
  (await batch(db, [{ op: 'namespaces', ...wanted }], visible))[0] as string[][]

/** Deletes at most `limit` expired items; gives how many it was. */
export const sweepExpired = async (db: Db, limit: number): Promise<number> =>
  (
    await db.rows(sql`
      delete from store_items s using (
        select namespace, key from store_items where expires_at <= clock_timestamp()
        order by expires_at limit ${limit}::bigint for update skip locked
      ) expired
      where s.namespace = expired.namespace and s.key = expired.key returning 1`)
  ).length

// ------------------------------------------------------------------------------------------------ operations

const AT_ONCE = 500

/** Neighbours of one kind, which one statement can do; each search and each listing is its own. */
function grouped(ops: readonly IndexedOp[]): IndexedOp[][] {
  const groups: IndexedOp[][] = []
  for (const op of ops) {
    const last = groups.at(-1)
    const joins = (op.op === 'get' || op.op === 'put') && last?.[0]?.op === op.op && last.length < AT_ONCE
    if (joins) last.push(op)
    else groups.push([op])
  }
  return groups
}

async function perform(
  db: Db,
  group: readonly IndexedOp[],
  visible: Sql,
  index: VectorIndex | undefined,
): Promise<unknown[]> {
  const [first] = group
  switch (first?.op) {
    case undefined:
      return []
    case 'get':
      return getMany(db, group as Op<'get'>[], visible)
    case 'put':
      return putMany(db, group as Op<'put'>[], visible, index)
    case 'search':
      return [await (index && first.vector ? searchNear(db, first, visible, index) : searchOne(db, first, visible))]
    case 'namespaces':
      return [await listOne(db, first, visible)]
  }
}

async function getMany(db: Db, ops: readonly Op<'get'>[], visible: Sql): Promise<(ItemRow | null)[]> {
  const wanted = sql`(values ${join(
    ops.map(
      (op, i) => sql`(${i}::int, ${op.namespace}::text[], ${op.key}::text, ${op.refresh_ttl !== false}::boolean)`,
    ),
  )}) as wanted (i, in_namespace, with_key, renew)`
  const rows = await db.rows<ItemRow & { i: number }>(sql`
    with found as (
      select * from ${wanted}
      join (select ${columns}, ttl_minutes from store_items where ${live} and ${visible}) items
        on items.namespace = in_namespace and items.key = with_key
    ), ${renewing(sql`select namespace, key from found where renew and ttl_minutes is not null`)}
    select i, ${columns} from found`)
  const results = new Array<ItemRow | null>(ops.length).fill(null)
  for (const { i, ...item } of rows) results[i] = item
  return results
}

async function putMany(
  db: Db,
  ops: readonly Op<'put'>[],
  visible: Sql,
  index: VectorIndex | undefined,
): Promise<null[]> {
  // One statement may not touch a row twice, so the last word on an item counts. In order, so that none waits for another.
  const byAddress = new Map(ops.map((op) => [JSON.stringify([op.namespace, op.key]), op]))
  const latest = [...byAddress].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, op]) => op)
  const stored = latest.filter((op) => op.value !== null)
  const gone = latest.filter((op) => op.value === null)
  const statements: Promise<unknown>[] = []
  if (stored.length) {
    statements.push(upsert(db, stored, visible, index))
    if (index)
      statements.push(
        ...write(
          db,
          index,
          stored.map((op) => ({ ...op, vectors: op.vectors ?? [] })),
        ),
      )
  }
  if (gone.length) {
    const rows = gone.map((op) => sql`(${op.namespace}::text[], ${op.key}::text)`)
    statements.push(
      db.rows(sql`delete from store_items where (namespace, key) in (values ${join(rows)}) and ${visible}`),
    )
  }
  await Promise.all(statements)
  return ops.map(() => null)
}

async function upsert(db: Db, ops: readonly Op<'put'>[], visible: Sql, index: VectorIndex | undefined): Promise<void> {
  const rows = ops.map(
    (op) =>
      sql`(${op.namespace}::text[], ${op.key}::text, ${json(op.value)}::jsonb, ${op.ttl ?? null}::float8, ${json(op.index ?? undefined)}::jsonb)`,
  )
  const embedded = index ? sql`case when ${current(index)} then ${index.id}::int end` : sql`null::int`
  // The row that is in the way may be newer than what this statement sees, so it is asked for what hides it.
  const written = await db.rows<{ embedded_by: number | null }>(sql`
    insert into store_items as s (namespace, key, value, ttl_minutes, expires_at, index_fields, embedded_by)
    select namespace, key, value, ttl_minutes, ${renewed}, index_fields, ${embedded}
    from (values ${join(rows)}) as given (namespace, key, value, ttl_minutes, index_fields)
    on conflict (namespace, key) do update set value = excluded.value, updated_at = clock_timestamp(),
      ttl_minutes = excluded.ttl_minutes, expires_at = excluded.expires_at,
      index_fields = excluded.index_fields, embedded_by = excluded.embedded_by,
      created_at = case when s.expires_at <= statement_timestamp() then excluded.created_at else s.created_at end
    where not exists (
      select 1 from store_items where namespace = excluded.namespace and key = excluded.key and not (${visible}))
    returning embedded_by`)
  if (written.length < ops.length) throw new ApiError('conflict', 'An item is there that you may not change.')
  if (index && written.some(({ embedded_by }) => embedded_by === null)) throw rebuilt()
}

async function searchOne(db: Db, op: Op<'search'>, visible: Sql): Promise<ItemRow[]> {
  const page = sql`
    select ${columns}, ttl_minutes from store_items
    where ${and([live, ...under(op.namespace_prefix), ...conditions(op.filter), visible])}
    order by updated_at desc, namespace, key limit ${op.limit}::bigint offset ${op.offset}::bigint`
  if (op.refresh_ttl === false) return db.rows<ItemRow>(adHoc(sql`select ${columns} from (${page}) page`))
  const mortal = sql`select namespace, key from page where ttl_minutes is not null`
  return db.rows<ItemRow>(
    adHoc(sql`
    with page as (${page}), ${renewing(mortal)}
    select ${columns} from page order by updated_at desc, namespace, key`),
  )
}

/** By likeness instead of by time. */
async function searchNear(db: Db, op: Op<'search'>, visible: Sql, index: VectorIndex): Promise<ItemRow[]> {
  const named = [...under(op.namespace_prefix), ...conditions(op.filter)]
  const found = await nearest(db, index, {
    vector: op.vector as Uint8Array,
    condition: and([live, ...named, visible]),
    narrow: named.length > 0 || visible !== all,
    limit: op.limit,
    offset: op.offset,
  })
  const mortal = op.refresh_ttl === false ? [] : found.filter(({ ttl_minutes }) => ttl_minutes !== null)
  if (mortal.length > 0) {
    const at = join(mortal.map(({ namespace, key }) => sql`(${namespace}::text[], ${key}::text)`))
    await db.rows(sql`with ${renewing(sql`values ${at}`)} select 1`)
  }
  return found.map(({ namespace, key, value, created_at, updated_at, score }) => ({
    namespace,
    key,
    value,
    created_at,
    updated_at,
    score,
  }))
}

/** Locked items are passed over: someone else renews or changes them, and readers must not wait for each other. */
const renewing = (which: Sql): Sql => sql`
  free as (
    select namespace, key from store_items where (namespace, key) in (${which}) for no key update skip locked
  ), renewed as (
    update store_items s set expires_at = ${renewed} from free where s.namespace = free.namespace and s.key = free.key
  )`

/** From one namespace to the next: that reads as many rows as there are namespaces, and not each item. */
async function listOne(db: Db, op: Op<'namespaces'>, visible: Sql): Promise<string[][]> {
  const { max_depth: depth } = op
  const labels = depth === undefined ? sql`namespace` : sql`namespace[1:${depth}::int]`
  // The least that comes after it and, where it was cut, after all that begin with it.
  const whole = sql`labels || ''::text`
  const after =
    depth === undefined
      ? whole
      : sql`case when cardinality(labels) < ${depth}::int then ${whole}
          else labels[1:${depth - 1}::int] || (labels[${depth}::int] || chr(1)) end`
  const meant = and([live, ...under(literal(op.prefix)), begins(op.prefix), ends(op.suffix), visible])
  const query = adHoc(sql`
    with recursive found as (
      (select ${labels} as labels from store_items where ${meant} order by namespace limit 1)
      union all
      select (select ${labels} from store_items where ${meant} and namespace >= ${after} order by namespace limit 1)
      from found where labels is not null
    )
    select labels from found where labels is not null limit ${op.limit}::bigint offset ${op.offset}::bigint`)
  const rows = await inOrder(db, (tx) => tx.rows<{ labels: string[] }>(query))
  return rows.map((row) => row.labels)
}

/** A range of the primary key: no label comes between one and the same with the least character after it. */
function under(prefix: readonly string[]): Sql[] {
  if (prefix.length === 0) return []
  const end = [...prefix.slice(0, -1), `${prefix.at(-1)}\u0001`]
  return [sql`namespace >= ${prefix}::text[]`, sql`namespace < ${end}::text[]`]
}

const literal = (labels: readonly string[] = []): readonly string[] => {
  const wild = labels.indexOf('*')
  return wild < 0 ? labels : labels.slice(0, wild)
}

const begins = (labels: readonly string[] = []): Sql | undefined =>
  labels.length ? matches(labels, (i) => sql`namespace[${i + 1}::int]`) : undefined
const ends = (labels: readonly string[] = []): Sql | undefined =>
  labels.length
    ? matches(labels, (i) => sql`namespace[cardinality(namespace) - ${labels.length - 1 - i}::int]`)
    : undefined
const matches = (labels: readonly string[], at: (i: number) => Sql): Sql =>
  and([
    sql`cardinality(namespace) >= ${labels.length}::int`,
    ...labels.map((label, i) => (label === '*' ? undefined : sql`${at(i)} = ${label}::text`)),
  ])

// ------------------------------------------------------------------------------------------------ checks

const MAX_LABEL = 512
const MAX_LABELS = 16
const MAX_ADDRESS = 2048
const sizeOf = (text: string): number => Buffer.byteLength(text)

/** Throws `validation_failed` for an address or page that cannot be. */
export function check(op: StoreOp): void {
  if (op.op === 'namespaces' || op.op === 'search') checkPage(op)
  if (op.op === 'namespaces') {
    checkLabels(op.prefix ?? [])
    checkLabels(op.suffix ?? [])
    return
  }
  if (op.op === 'search') {
    checkLabels(op.namespace_prefix)
    return
  }
  checkLabels(op.namespace)
  checkText(op.key, 'A key')
  if (op.op === 'get') return
  if (!op.namespace.length) refuse('An item needs a namespace of at least one label.')
  if (op.namespace[0] === 'langgraph') refuse('The namespace "langgraph" is reserved: use another first label.')
  const size = op.namespace.reduce((sum, label) => sum + sizeOf(label), sizeOf(op.key))
  if (size > MAX_ADDRESS)
    refuse(`Namespace and key are ${size} bytes long together: at most ${MAX_ADDRESS} are possible.`)
}

function checkPage({ limit, offset }: { limit: number; offset: number }): void {
  const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0
  if (!isCount(limit) || !isCount(offset)) refuse('limit and offset must be whole numbers that are not negative.')
}

function checkLabels(labels: readonly string[]): void {
  if (labels.length > MAX_LABELS) refuse(`A namespace has at most ${MAX_LABELS} labels.`)
  for (const label of labels) {
    checkText(label, 'A namespace label')
    if (label.includes('.')) refuse(`The namespace label "${label}" must not contain a dot.`)
  }
}

function checkText(text: unknown, what: string): void {
  if (typeof text !== 'string' || text === '') refuse(`${what} must be a text that is not empty.`)
  if (sizeOf(text) > MAX_LABEL) refuse(`${what} is at most ${MAX_LABEL} bytes long.`)
  if (text.includes('\0') || /\p{Surrogate}/u.test(text)) refuse(`${what} must not hold NUL or half a character.`)
}

function refuse(detail: string): never {
  throw new ApiError('validation_failed', detail)
}
