// Items that the semantic index has not seen: stored before it was configured, or before its settings changed. In charge of
// working them off beside servers that go on writing.

import type { Db } from './db.ts'
import { current, type VectorIndex } from './semantic.ts'
import { join, sql } from './sql.ts'
import { type Indexed, write } from './vectors.ts'

/** An item that this index has no vectors of yet. */
export interface Unembedded {
  item_id: number
  namespace: string[]
  key: string
  value: Record<string, unknown>
  index_fields: false | string[] | null
  /** When it was last changed, as text of this session. */
  seen: string
}

/** How many items this index has not seen. */
export const count = async (db: Db, index: VectorIndex): Promise<number> =>
  (
    await db.rows<{ n: number }>(
      sql`select count(*) as n from store_items where embedded_by is distinct from ${index.id}::int`,
    )
  )[0]?.n ?? 0

/** The next items that it has not seen, after an id. */
export const next = (db: Db, index: VectorIndex, after: number, limit: number): Promise<Unembedded[]> =>
  db.rows<Unembedded>(sql`
    select item_id, namespace, key, value, index_fields, updated_at::text as seen from store_items
    where item_id > ${after}::bigint and embedded_by is distinct from ${index.id}::int
    order by item_id limit ${limit}::bigint`)

/** Gives items their vectors; those that were changed meanwhile are left to whoever changed them. */
export const embed = (
  db: Db,
  index: VectorIndex,
  items: readonly (Indexed & Pick<Unembedded, 'item_id' | 'seen'>)[],
): Promise<void> =>
  db.tx(async (tx) => {
    const rows = join(items.map((item) => sql`(${item.item_id}::bigint, ${item.seen}::timestamptz)`))
    const held = await tx.rows<{ item_id: number }>(sql`
      update store_items s set embedded_by = ${index.id}::int from (values ${rows}) as given (id, seen)
      where s.item_id = id and s.updated_at = given.seen and ${current(index)} returning s.item_id`)
    const ids = new Set(held.map(({ item_id }) => item_id))
    const present = items.filter(({ item_id }) => ids.has(item_id))
    if (present.length > 0) await Promise.all(write(tx, index, present))
  })
