// The semantic index of the store as a whole: how its vectors are made, written down beside them, and their table. In charge
// of never mixing vectors that were made in different ways; whoever writes or searches names the index it means.

import { ApiError, ConfigError } from '../errors.ts'
import { type Db, one } from './db.ts'
import { json } from './json.ts'
import { Sql, sql } from './sql.ts'
import { isForbidden } from './sqlstate.ts'

/** How vectors are made: what is written down of `store.index`. */
export interface IndexSettings {
  dims: number
  embed: string
  fields: readonly string[]
}

/** An index that is there. */
export interface VectorIndex {
  id: number
  /** Stored in half precision, because there are too many dimensions for an index otherwise. */
  halved: boolean
  /** Whether there is an approximate index; without one each vector is looked at. */
  hnsw: boolean
  /** Whether a scan of that index goes on until enough was found that passes the other conditions. */
  iterative: boolean
}

const LOCK = 4_837_201_145
/** What pgvector can index, in full and in half precision. */
const MAX_FULL = 2_000
const MAX_HALF = 4_000

/** When the vectors that are there are thrown away: if they were made in another way, or in any case. */
export type Anew = 'changed' | 'always'

/** Makes the table of vectors for these settings, or finds that it is there already. Throws `ConfigError` where the database
 *  lacks the extension, or the vectors there were made with others and are not to be made anew. */
export const prepare = (db: Db, settings: IndexSettings, anew?: Anew): Promise<VectorIndex> =>
  db.tx(async (tx) => {
    await tx.rows(sql`select pg_advisory_xact_lock(${LOCK})::text`)
    const known = await one(
      tx.rows<IndexSettings & { index_id: number }>(sql`select index_id, dims, embed, fields from store_index`),
    )
    const version = known ? await installed(tx) : await install(tx)
    if (known && same(known, settings) && anew !== 'always')
      return { id: known.index_id, iterative: since(version, 8), ...(await present(tx)) }
    if (known && anew === undefined && (await isUsed(tx))) throw changed(known, settings)
    await tx.rows(sql`drop table if exists store_vectors`)
    const made = shape(settings.dims, version)
    await tx.rows(table(settings.dims, made.halved))
    if (made.hnsw) {
      const measure = made.halved ? sql`halfvec_cosine_ops` : sql`vector_cosine_ops`
      await tx.rows(sql`create index store_vectors_nearest on store_vectors using hnsw (embedding ${measure})`)
    }
    const { dims, embed, fields } = settings
    const [row] = await tx.rows<{ index_id: number }>(sql`
      insert into store_index (index_id, dims, embed, fields)
      values (1, ${dims}::int, ${embed}::text, ${json(fields)}::jsonb)
      on conflict (singleton) do update set index_id = store_index.index_id + 1, dims = excluded.dims,
        embed = excluded.embed, fields = excluded.fields returning index_id`)
    return { id: (row as { index_id: number }).index_id, ...made }
  })

const table = (dims: number, halved: boolean): Sql => {
  // A size in a type cannot be bound; this one is a number.
  const type = new Sql([`${halved ? 'halfvec' : 'vector'}(${Math.trunc(dims)})`], [])
  return sql`create table store_vectors (
    item_id bigint not null references store_items (item_id) on delete cascade,
    hash text not null, embedding ${type} not null, primary key (item_id, hash))`
}

async function installed(db: Db): Promise<string | undefined> {
  return (await one(db.rows<{ v: string }>(sql`select extversion as v from pg_extension where extname = 'vector'`)))?.v
}

async function install(db: Db): Promise<string | undefined> {
  const present = await installed(db)
  if (present !== undefined) return present
  const offered = await db.rows(sql`select 1 from pg_available_extensions where name = 'vector'`)
  if (offered.length === 0) {
    throw new ConfigError(
      'store.index needs the Postgres extension "vector" (pgvector), which the database server does not have: install it there, or remove store.index.',
    )
  }
  try {
    await db.rows(sql`create extension vector`)
  } catch (error) {
    if (!isForbidden(error)) throw error
    throw new ConfigError(
      'store.index needs the Postgres extension "vector" (pgvector), which this user may not create: have an administrator run "create extension vector" in this database.',
    )
  }
  return installed(db)
}

/** What pgvector can do is told by its minor version. */
function since(version = '0', least: number): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > 0 || minor >= least
}

function shape(dims: number, version: string | undefined): Omit<VectorIndex, 'id'> {
  const halved = dims > MAX_FULL && dims <= MAX_HALF && since(version, 7)
  return { halved, hnsw: halved || (dims <= MAX_FULL && since(version, 5)), iterative: since(version, 8) }
}

/** How the table was made: the extension may have been updated since. */
async function present(db: Db): Promise<Pick<VectorIndex, 'halved' | 'hnsw'>> {
  const [row] = await db.rows<Pick<VectorIndex, 'halved' | 'hnsw'>>(sql`
    select format_type(atttypid, null) = 'halfvec' as halved, to_regclass('store_vectors_nearest') is not null as hnsw
    from pg_attribute where attrelid = to_regclass('store_vectors') and attname = 'embedding'`)
  return row ?? { halved: false, hnsw: false }
}

const same = (a: IndexSettings, b: IndexSettings): boolean =>
  a.dims === b.dims && a.embed === b.embed && JSON.stringify(a.fields) === JSON.stringify(b.fields)

const isUsed = async (db: Db): Promise<boolean> => (await db.rows(sql`select 1 from store_vectors limit 1`)).length > 0

function changed(known: IndexSettings, wanted: IndexSettings): ConfigError {
  const differences = (['dims', 'embed', 'fields'] as const)
    .filter((key) => JSON.stringify(known[key]) !== JSON.stringify(wanted[key]))
    .map((key) => `${key} is ${JSON.stringify(wanted[key])} and was ${JSON.stringify(known[key])}`)
  return new ConfigError(
    `store.index: ${differences.join(', ')}. Run "heddle reindex-store" to embed what is stored anew, or put it back as it was.`,
  )
}

/** Whether the index is still the one that the vectors are meant for. */
export const current = (index: VectorIndex): Sql =>
  sql`exists (select 1 from store_index where index_id = ${index.id}::int)`

/** What a process meets whose settings are no longer those of the index. */
export const rebuilt = (): ApiError =>
  new ApiError(
    'conflict',
    'The semantic index was made anew with other settings: restart this server with the same store.index.',
  )
