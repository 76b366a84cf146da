// The semantic index where it is kept: what it is made as, who may write to it, and that the approximate way and the exact one
// agree. On the embedded database, and on Postgres where it has pgvector.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Database } from '../../src/db/db.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDatabase } from '../../src/db/open.ts'
import { prepare, type VectorIndex } from '../../src/db/semantic.ts'
import { all, sql } from '../../src/db/sql.ts'
import * as store from '../../src/db/store.ts'
import * as unembedded from '../../src/db/unembedded.ts'
import { ConfigError } from '../../src/errors.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { serverHasVectors } from '../support/vectors.ts'

/** A vector as the database takes it. */
function vectorOf(...numbers: number[]): Uint8Array {
  const bytes = Buffer.alloc(4 + 4 * numbers.length)
  bytes.writeUInt16BE(numbers.length, 0)
  for (const [i, number] of numbers.entries()) bytes.writeFloatBE(number, 4 + 4 * i)
  return bytes
}
const settings = { dims: 2, embed: 'given', fields: ['text'] }
const at = (degrees: number) => vectorOf(Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180))
const item = (key: string, ...degrees: number[]) => ({
  op: 'put' as const,
  namespace: ['v'],
  key,
  value: { key },
  vectors: degrees.map((each) => ({ hash: `${each}`, vector: at(each) })),
})
const has = await serverHasVectors()

describe.each(has ? (['embedded', 'postgres'] as const) : (['embedded'] as const))('on %s', (kind) => {
  const homes: TestDatabase[] = []
  const opened: Database[] = []
  const open = async (): Promise<Database> => {
    const home = kind === 'postgres' ? await createDatabase() : undefined
    if (home) homes.push(home)
    const db = await openDatabase(home ? { uri: home.uri, poolSize: 4 } : { memory: true, vectors: true }, () => {})
    opened.push(db)
    await migrate(db)
    return db
  }
  let db: Database
  beforeAll(async () => {
    db = await open()
  })
  afterAll(async () => {
    for (const each of opened) await each.close()
    for (const home of homes) await home.drop()
  })
  const nearest = async (index: VectorIndex, degrees: number, more: object = {}) => {
    const search = {
      op: 'search' as const,
      namespace_prefix: ['v'],
      limit: 10,
      offset: 0,
      vector: at(degrees),
      ...more,
    }
    const [found] = await store.batch(db, [search], all, index)
    return (found as { key: string; score: number }[]).map(({ key, score }) => [key, Math.round(score * 1e4) / 1e4])
  }

  test('the same settings find the same index; others say what to do, and are taken on when that is wished', async () => {
    const first = await prepare(db, settings)
    expect(first).toEqual({ id: 1, halved: false, hnsw: true, iterative: true })
    expect(await prepare(db, settings)).toEqual(first)
    await store.batch(db, [item('a', 0)], all, first)
    const refused = await prepare(db, { ...settings, dims: 3, fields: ['$'] }).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(ConfigError)
    expect((refused as Error).message).toBe(
      'store.index: dims is 3 and was 2, fields is ["$"] and was ["text"]. Run "heddle reindex-store" to embed what is stored anew, or put it back as it was.',
    )
    expect(await prepare(db, settings)).toEqual(first)
    const second = await prepare(db, { ...settings, embed: 'other' }, 'changed')
    expect(second.id).toBe(2)
    expect(await unembedded.count(db, second)).toBe(1)
    // Whoever holds the former one can neither write nor search.
    for (const op of [item('b', 0), { ...item('b'), value: { n: 1 } }])
      await expect(store.batch(db, [op], all, first)).rejects.toMatchObject({ code: 'conflict' })
    await expect(nearest(first, 0)).rejects.toMatchObject({ code: 'conflict' })
    await expect(nearest(first, 0, { namespace_prefix: [] })).rejects.toMatchObject({ code: 'conflict' })
    expect(await store.get(db, { namespace: ['v'], key: 'b' }, all)).toBeNull()
    expect((await prepare(db, { ...settings, embed: 'other' }, 'always')).id).toBe(3)
  })

  test('scores are cosines, from one to minus one, and a vector of zeros is like nothing', async () => {
    const index = await prepare(db, { ...settings, embed: 'scores' }, 'always')
    await store.batch(db, [item('same', 30), item('right', 120), item('against', 210), item('near', 90)], all, index)
    const zero = { ...item('zero'), vectors: [{ hash: 'z', vector: vectorOf(0, 0) }] }
    await store.batch(db, [zero], all, index)
    expect(await nearest(index, 30)).toEqual([
      ['same', 1],
      ['near', 0.5],
      ['right', 0],
      ['against', -1],
      ['zero', 0],
    ])
  })

  test('past two thousand items the approximate index finds what the exact way finds', async () => {
    const index = await prepare(db, { ...settings, embed: 'many' }, 'always')
    await db.rows(sql`delete from store_items`)
    const items = Array.from({ length: 2_500 }, (_, i) => item(`${i}`, (i * 360) / 2_500))
    for (let from = 0; from < items.length; from += 500)
      await store.batch(db, items.slice(from, from + 500), all, index)
    const [exact] = [await nearest({ ...index, hnsw: false }, 100.01, { limit: 5 })]
    expect(exact?.map(([key]) => key)).toHaveLength(5)
    expect(await nearest(index, 100.01, { limit: 5 })).toEqual(exact)
    expect(await nearest(index, 100.01, { limit: 5, namespace_prefix: [] })).toEqual(exact)
    const filtered = await nearest(index, 100.01, {
      limit: 2,
      offset: 1,
      filter: { key: { $ne: String(exact[0]?.[0]) } },
    })
    expect(filtered).toEqual(exact.slice(2, 4))
  })

  test('of many writers of one item, the last one’s texts are the ones that are found', async () => {
    const index = await prepare(db, { ...settings, embed: 'writers' }, 'always')
    await db.rows(sql`delete from store_items`)
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => store.batch(db, [{ ...item('k', i), value: { i } }], all, index)),
    )
    const kept = await store.get(db, { namespace: ['v'], key: 'k' }, all)
    const hashes = await db.rows<{ hash: string }>(sql`select hash from store_vectors`)
    expect(hashes).toEqual([{ hash: `${kept?.value.i}` }])
    await store.remove(db, { namespace: ['v'], key: 'k' }, all)
    expect(await db.rows(sql`select 1 from store_vectors`)).toEqual([])
  })

  test.each([
    [2_000, { halved: false, hnsw: true }],
    [3_000, { halved: true, hnsw: true }],
    [5_000, { halved: false, hnsw: false }],
  ])('vectors of %i numbers are stored and found', async (dims, made) => {
    const index = await prepare(db, { ...settings, dims, embed: 'wide' }, 'always')
    expect(index).toMatchObject(made)
    expect(await prepare(db, { ...settings, dims, embed: 'wide' })).toEqual(index)
    await db.rows(sql`delete from store_items`)
    const one = (lead: number) => vectorOf(...Array.from({ length: dims }, (_, i) => (i % 7 === lead ? 1 : 0)))
    const op = {
      ...item('k'),
      vectors: [
        { hash: 'a', vector: one(1) },
        { hash: 'b', vector: one(2) },
      ],
    }
    await store.batch(db, [op], all, index)
    expect(await nearest(index, 0, { vector: one(2) })).toEqual([['k', 1]])
    expect(await nearest(index, 0, { vector: one(3) })).toEqual([['k', 0]])
  })
})

test('an embedded database that once held vectors opens whole when nobody asks for them any more', async () => {
  const { mkdtempSync, rmSync } = await import('node:fs')
  const dataDir = mkdtempSync('/tmp/heddle-vectors-')
  try {
    const first = await openDatabase({ dataDir, vectors: true }, () => {})
    await migrate(first)
    await store.batch(first, [item('k', 1)], all, await prepare(first, settings))
    await first.close()
    const second = await openDatabase({ dataDir }, () => {})
    await store.remove(second, { namespace: ['v'], key: 'k' }, all)
    expect(await second.rows(sql`select count(*) as n from store_vectors`)).toEqual([{ n: 0 }])
    await second.close()
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
})

test('a database without the extension says which one is missing', async () => {
  // The embedded one has it only when asked for.
  const db = await openDatabase({ memory: true }, () => {})
  await migrate(db)
  const refused = await prepare(db, settings).catch((error: unknown) => error)
  await db.close()
  expect(refused).toBeInstanceOf(ConfigError)
  expect((refused as Error).message).toContain('needs the Postgres extension "vector" (pgvector)')
})

test.skipIf(has)(`Postgres without pgvector says so${has ? ' (skipped: this server has it)' : ''}`, async () => {
  const home = await createDatabase()
  const db = await openDatabase({ uri: home.uri, poolSize: 1 }, () => {})
  await expect(prepare(db, settings)).rejects.toThrow('which the database server does not have: install it there')
  await db.close()
  await home.drop()
})
