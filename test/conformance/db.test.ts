// What both database drivers must do alike: types of rows, transactions, JSON of any content, migrations. On the embedded
// database and on Postgres.

import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Database } from '../../src/db/db.ts'
import { json } from '../../src/db/json.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDatabase } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { ConfigError } from '../../src/errors.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { dumpSchema } from '../support/schema.ts'

const hard = fc.string({
  unit: fc.constantFrom(
    '\0',
    '\ud800',
    '\udfff',
    '😀',
    '\ue000',
    'e',
    '0',
    's',
    'd800',
    '\\u0000',
    '\\',
    '"',
    'a',
    '\u2028',
  ),
  maxLength: 10,
})
const value = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 3 },
    hard,
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
    tie('list'),
    tie('object'),
  ),
  list: fc.array(tie('any'), { maxLength: 3 }),
  object: fc.dictionary(fc.oneof(hard, fc.constantFrom('__proto__', 'constructor')), tie('any'), { maxKeys: 3 }),
})).any

/** As jsonb gives it back: keys in an order of its own. */
const ordered = (given: unknown): string =>
  JSON.stringify(given, (_, item) =>
    typeof item === 'object' && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  )

describe.each(['embedded', 'postgres'] as const)('on %s', (kind) => {
  let home: TestDatabase | undefined
  let database: Database
  const open = () => openDatabase(home ? { uri: home.uri, poolSize: 4 } : { memory: true }, () => {})
  beforeAll(async () => {
    if (kind === 'postgres') home = await createDatabase({ migrated: false })
    database = await open()
  })
  afterAll(async () => {
    await database.close()
    await home?.drop()
  })

  test('the schema is the one under review', async () => {
    await migrate(database)
    await expect(await dumpSchema(database)).toMatchFileSnapshot('../schema.sql')
  })

  test('migrating again does nothing, and many at once migrate once', async () => {
    expect(await migrate(database)).toEqual([])
    const fresh = kind === 'postgres' ? await createDatabase({ migrated: false }) : undefined
    const opened = fresh
      ? await Promise.all([1, 2, 3, 4].map(() => openDatabase({ uri: fresh.uri, poolSize: 1 }, () => {})))
      : [await openDatabase({ memory: true }, () => {})]
    const done = await Promise.all([...opened, ...opened].map((one) => migrate(one)))
    expect(done.flat()).toEqual([...new Set(done.flat())])
    expect(done.flat()[0]).toBe('0001_begin')
    for (const one of opened) await one.close()
    await fresh?.drop()
  })

  test('a database that a newer version has migrated is refused, and left alone', async () => {
    await database.rows(sql`insert into heddle_migrations (name) values ('9999_future')`)
    const refused = await migrate(database).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(ConfigError)
    expect((refused as Error).message).toContain('9999_future')
    await database.rows(sql`delete from heddle_migrations where name = '9999_future'`)
    expect(await migrate(database)).toEqual([])
  })

  test('rows come in the common types', async () => {
    const [row] =
      await database.rows(sql`select 1::int as i, 9007199254740991::bigint as b, 1.5::float8 as f, true as t,
      'x'::text as s, null::text as n, '\\x0001ff'::bytea as bytes, '2026-01-02 03:04:05.678901+00'::timestamptz as at,
      '{"a":[1,"\\u00e9"]}'::json as j, '{"a":[1]}'::jsonb as jb, array['a', null]::text[] as l, array[1, 2]::int[] as il,
      '0190a6a4-0000-7000-8000-000000000000'::uuid as id`)
    const { bytes, ...rest } = row as { bytes: Uint8Array }
    expect(rest).toEqual({
      i: 1,
      b: 9007199254740991,
      f: 1.5,
      t: true,
      s: 'x',
      n: null,
      at: '2026-01-02T03:04:05.678901+00:00',
      j: { a: [1, 'é'] },
      jb: { a: [1] },
      l: ['a', null],
      il: [1, 2],
      id: '0190a6a4-0000-7000-8000-000000000000',
    })
    expect(bytes).toBeInstanceOf(Uint8Array)
    expect([...bytes]).toEqual([0, 1, 255])
  })

  test('a number that would lose digits is an error, not another number', async () => {
    await expect(database.rows(sql`select 9007199254740993::bigint as b`)).rejects.toThrow('9007199254740993')
  })

  test('values of every kind can be bound', async () => {
    const bytes = new Uint8Array([0, 1, 255])
    const [row] = await database.rows<{
      bytes: Uint8Array
    }>(sql`select ${'a'}::text as s, ${1}::int as i, ${1.5}::float8 as f,
      ${null}::text as n, ${true}::boolean as t, ${['a', 'b"\\{']}::text[] as l, (select sum(x)::int from unnest(${[1, 2]}::bigint[]) x) as sum,
      ${json({ a: 1 })}::jsonb as j, ${bytes}::bytea as bytes`)
    const { bytes: back, ...rest } = row ?? { bytes }
    expect(rest).toEqual({ s: 'a', i: 1, f: 1.5, n: null, t: true, l: ['a', 'b"\\{'], sum: 3, j: { a: 1 } })
    expect([...back]).toEqual([0, 1, 255])
  })

  test('any JSON comes back as it went, from json and from jsonb', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(value, { minLength: 1, maxLength: 20 }), async (given) => {
        const texts = given.map((one) => json(one))
        const rows = await database.rows<{ j: unknown; jb: unknown }>(
          sql`select n.text::json as j, n.text::jsonb as jb from unnest(${texts}::text[]) with ordinality as n(text, i) order by i`,
        )
        const sent = given.map((one) => JSON.parse(JSON.stringify(one)))
        expect(rows.map(({ j }) => JSON.stringify(j))).toEqual(sent.map((one) => JSON.stringify(one)))
        expect(rows.map(({ jb }) => ordered(jb))).toEqual(sent.map(ordered))
      }),
      { numRuns: 100 },
    )
  })

  test('a transaction is there as a whole or not at all, nested ones with it', async () => {
    await database.rows(sql`create table boxes (name text primary key)`)
    const put = (name: string) => sql`insert into boxes values (${name})`
    const names = async () =>
      (await database.rows<{ name: string }>(sql`select name from boxes order by name`)).map(({ name }) => name)
    const done = await database.tx(async (tx) => {
      await tx.rows(put('a'))
      await tx.tx((inner) => inner.rows(put('b')))
      return 'done'
    })
    expect(done).toBe('done')
    expect(await names()).toEqual(['a', 'b'])
    const failed = database.tx(async (tx) => {
      await tx.rows(put('c'))
      await tx.tx((inner) => inner.rows(put('d')))
      throw new Error('no')
    })
    await expect(failed).rejects.toThrow('no')
    const clashed = database.tx(async (tx) => {
      await tx.rows(put('e'))
      await tx.rows(put('a'))
    })
    await expect(clashed).rejects.toThrow()
    expect(await names()).toEqual(['a', 'b'])
    await database.rows(put('f'))
    expect(await names()).toEqual(['a', 'b', 'f'])
    await database.rows(sql`drop table boxes`)
  })

  test('of a connection that is given up nothing is left, and the next is like it', async () => {
    const count = () => database.rows(sql`select count(*)::int as n from pg_class where relname = 'leftover'`)
    const zone = () => database.rows(sql`select current_setting('TimeZone') as zone`)
    const before = await zone()
    await database.rows(sql`create temporary table leftover (i int)`)
    expect(await count()).toEqual([{ n: 1 }])
    // An answer that the client cannot read.
    await expect(database.rows(sql`select ${'9007199254740993'}::int8 as n`)).rejects.toThrow('9007199254740993')
    expect(await count()).toEqual([{ n: 0 }])
    expect(await zone()).toEqual(before)
  })

  test('a statement that is refused does not cost the connection', async () => {
    const connection = async () => (await database.rows<{ pid: number }>(sql`select pg_backend_pid() as pid`))[0]?.pid
    // The embedded engine gives the same number on each connection; what was prepared goes with the connection.
    const prepared = async () =>
      (await database.rows<{ n: number }>(sql`select count(*)::int as n from pg_prepared_statements`))[0]?.n
    await database.rows(sql`select 'before'`)
    const before = { pid: await connection(), prepared: await prepared() }
    await expect(database.rows(sql`select 1 / 0`)).rejects.toThrow('division by zero')
    expect({ pid: await connection(), prepared: await prepared() }).toEqual({
      pid: before.pid,
      // The statement that failed was planned, as was the count the first time.
      prepared: (before.prepared ?? 0) + 1,
    })
  })

  test('a table that gets a column between two statements is no error, alone or in a transaction', async () => {
    const all = sql`select * from changed`
    await database.script('create table changed as select 1 as a')
    expect(await database.rows(all)).toEqual([{ a: 1 }])
    await database.script('alter table changed add column b int default 2')
    expect(await database.rows(all)).toEqual([{ a: 1, b: 2 }])
    await database.script('alter table changed add column c int default 3')
    expect(await database.tx((db) => db.rows(all))).toEqual([{ a: 1, b: 2, c: 3 }])
    await database.script('drop table changed')
  })

  test('transactions at once do not mix', async () => {
    await database.rows(sql`create table counts (n int)`)
    await database.rows(sql`insert into counts values (0)`)
    const add = () =>
      database.tx(async (tx) => {
        const [row] = await tx.rows<{ n: number }>(sql`select n from counts for update`)
        await tx.rows(sql`update counts set n = ${(row?.n ?? 0) + 1}`)
      })
    await Promise.all(Array.from({ length: 20 }, add))
    expect(await database.rows(sql`select n from counts`)).toEqual([{ n: 20 }])
    await database.rows(sql`drop table counts`)
  })
})

test('the embedded database uses the room again that replaced values took', async () => {
  const db = await openDatabase({ memory: true }, () => {})
  try {
    await db.script(`create table t (id int primary key, v text); alter table t alter v set storage external`)
    await db.rows(sql`insert into t select n, repeat('x', 20000) from generate_series(1, 20) n`)
    const replaced = async () => {
      for (let i = 0; i < 50; i++) await db.rows(sql`update t set v = repeat(${String(i % 10)}, 20000)`)
      await db.reclaim?.()
      const [row] = await db.rows<{ size: number }>(sql`select pg_total_relation_size('t') as size`)
      return row?.size as number
    }
    const first = await replaced()
    for (let round = 0; round < 3; round++) expect(await replaced()).toBeLessThan(1.1 * first)
  } finally {
    await db.close()
  }
})
