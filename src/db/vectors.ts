// The vectors of the store's items in SQL: writing them beside the items, and finding the nearest. In charge of asking the
// approximate index only where looking at each would take longer.

import type { Db } from './db.ts'
import { inOrder } from './ordered.ts'
import { current, rebuilt, type VectorIndex } from './semantic.ts'
import { adHoc, join, type Sql, sql } from './sql.ts'

/** An item as it is stored and as it is sent. */
export interface ItemRow {
  namespace: string[]
  key: string
  value: Record<string, unknown>
  created_at: string
  updated_at: string
}

/** A text's hash and its vector: a 16-bit count of numbers, 16 bits of zero, and the numbers as big-endian floats. */
export interface TextVector {
  hash: string
  vector: Uint8Array
}

/** An item's address with its texts' vectors. */
export interface Indexed {
  namespace: string[]
  key: string
  vectors: readonly TextVector[]
}

/** Of these hashes, the vectors that these items have already. */
export async function known(
  db: Db,
  index: VectorIndex,
  items: readonly { namespace: string[]; key: string }[],
  hashes: readonly string[],
): Promise<TextVector[]> {
  const at = join(items.map(({ namespace, key }) => sql`(${namespace}::text[], ${key}::text)`))
  return db.rows<TextVector>(sql`
    select distinct on (hash) hash, vector_send(embedding::vector) as vector from store_vectors
    where ${current(index)} and hash = any (${hashes}::text[])
      and item_id in (select item_id from store_items where (namespace, key) in (values ${at}))`)
}

/** Gives items the vectors of their present texts, and takes all others from them. The items' rows must have been written in
 *  the same transaction. Vectors that are there are left alone: an index pays for each that is written. */
export function write(db: Db, index: VectorIndex, items: readonly Indexed[]): Promise<unknown>[] {
  const wanted = join(
    items.map(
      (item) => sql`(${item.namespace}::text[], ${item.key}::text, ${item.vectors.map(({ hash }) => hash)}::text[])`,
    ),
  )
  const vectors = items.flatMap(({ namespace, key, vectors }) =>
    vectors.map(
      ({ hash, vector }) => sql`(${namespace}::text[], ${key}::text, ${hash}::text, ${bound(vector, index)})`,
    ),
  )
  const removed = db.rows(sql`
    delete from store_vectors v using store_items s, (values ${wanted}) as wanted (in_namespace, with_key, hashes)
    where s.namespace = in_namespace and s.key = with_key and v.item_id = s.item_id and v.hash <> all (hashes)`)
  if (vectors.length === 0) return [removed]
  return [
    removed,
    db.rows(sql`
      insert into store_vectors (item_id, hash, embedding)
      select s.item_id, given.hash, given.embedding
      from (values ${join(vectors)}) as given (in_namespace, with_key, hash, embedding)
        join store_items s on s.namespace = in_namespace and s.key = with_key
      where ${current(index)} on conflict do nothing`),
  ]
}

const bound = (vector: Uint8Array, index: VectorIndex): Sql =>
  index.halved ? sql`${vector}::vector::halfvec` : sql`${vector}::vector`

/** Up to so many items are compared one by one, which is exact and, for these, faster. */
const ONE_BY_ONE = 2_000
/** How many vectors the approximate index is asked for: several may belong to one item. */
const MIN_DEPTH = 40
const MAX_DEPTH = 20_000
/** How many candidates the approximate index weighs against each other: more finds better ones, and takes longer. */
const MIN_LIST = 100
const MAX_LIST = 1_000

/** What is asked for: the vector, conditions on the columns of items, whether these may leave few of them, and the page. */
export interface Nearest {
  vector: Uint8Array
  condition: Sql
  narrow: boolean
  limit: number
  offset: number
}

/** An item found, and how like it is: 1 for the same direction, 0 for nothing in common. */
export interface Found extends ItemRow {
  ttl_minutes: number | null
  score: number
}

/** The items nearest to a vector, each by the nearest of its texts. Throws `conflict` when the index is another by now. */
export async function nearest(db: Db, index: VectorIndex, wanted: Nearest): Promise<Found[]> {
  if (!index.hnsw || wanted.narrow) {
    const found = await oneByOne(db, index, wanted)
    if (found) return found
  }
  for (let depth = Math.max(MIN_DEPTH, 2 * (wanted.offset + wanted.limit)); ; depth *= 4) {
    const { items, seen } = await approximate(db, index, wanted, depth)
    if (items.length === wanted.limit || seen < depth || depth >= MAX_DEPTH) return items
  }
}

// A vector of nothing but zeros has no direction: it is like nothing.
const found = sql`namespace, key, value, created_at, updated_at, ttl_minutes, coalesce(nullif(1 - distance, 'NaN'), 0) as score`

/** Of the vectors gathered in `nearest`, the best of each item, and the page of items. */
const best = ({ limit, offset }: Nearest): Sql => sql`
  select item_id, min(distance) as distance from nearest
  group by item_id order by distance, item_id limit ${limit}::bigint offset ${offset}::bigint`

/** Undefined where there are too many. */
async function oneByOne(db: Db, index: VectorIndex, wanted: Nearest): Promise<Found[] | undefined> {
  const few = index.hnsw ? sql`(select count(*) from candidates) <= ${ONE_BY_ONE}::int` : sql`true`
  const rows = await db.rows<Found & { candidates: number; is_current: boolean }>(
    adHoc(sql`
    with candidates as materialized (
      select item_id from store_items where ${wanted.condition} ${index.hnsw ? sql`limit ${ONE_BY_ONE + 1}::int` : sql``}
    ), nearest as materialized (
      select item_id, embedding <=> ${bound(wanted.vector, index)} as distance
      from candidates join store_vectors using (item_id) where ${few}
    ), best as (${best(wanted)})
    select candidates, is_current, distance, ${found}
    from (select (select count(*) from candidates) as candidates, ${current(index)} as is_current) as seen
      left join (best join store_items using (item_id)) on true
    order by distance, item_id`),
  )
  if (rows[0]?.is_current === false) throw rebuilt()
  if (index.hnsw && (rows[0]?.candidates ?? 0) > ONE_BY_ONE) return undefined
  return rows.filter(({ key }) => key !== null)
}

function approximate(
  db: Db,
  index: VectorIndex,
  wanted: Nearest,
  depth: number,
): Promise<{ items: Found[]; seen: number }> {
  const vector = bound(wanted.vector, index)
  const settings: [string, string][] = [
    ['hnsw.ef_search', String(Math.min(MAX_LIST, Math.max(MIN_LIST, depth)))],
    ...(index.iterative ? [['hnsw.iterative_scan', 'strict_order'] as [string, string]] : []),
  ]
  return inOrder(db, async (tx) => {
    const set = join(settings.map(([name, value]) => sql`set_config(${name}::text, ${value}::text, true)`))
    const settled = tx.rows<{ is_current: boolean }>(sql`select ${current(index)} as is_current, ${set}`)
    const read = tx.rows<Found & { seen: number }>(
      adHoc(sql`
      with nearest as materialized (
        select item_id, embedding <=> ${vector} as distance from store_vectors join store_items using (item_id)
        where ${wanted.condition} order by embedding <=> ${vector} limit ${depth}::int
      ), best as (${best(wanted)})
      select ${found}, (select count(*) from nearest) as seen
      from best join store_items using (item_id) order by distance, item_id`),
    )
    const [[state], items] = await Promise.all([settled, read])
    if (state?.is_current !== true) throw rebuilt()
    return { items, seen: items[0]?.seen ?? 0 }
  })
}
