// A database that is gone without a word: whoever asks is told in time, a slow statement is left alone, and a single connection that
// was forgotten on the way does not hold anybody up for long.

import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Database } from '../../src/db/db.ts'
import { openDatabase } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { startProxy, type TcpProxy } from '../support/proxy.ts'

let made: TestDatabase
let proxy: TcpProxy
let db: Database
beforeAll(async () => {
  made = await createDatabase()
  proxy = await startProxy(made.uri, 5432)
  db = await openDatabase({ uri: proxy.uri, poolSize: 3 }, () => {})
})
afterAll(async () => {
  proxy.mend()
  await db.close()
  await proxy.close()
  await made.drop()
})
const timed = async (work: Promise<unknown>): Promise<[code: unknown, ms: number]> => {
  const began = performance.now()
  const code = await work.then(
    () => 'answered',
    (error: { code?: unknown }) => error.code,
  )
  return [code, performance.now() - began]
}

test('a statement that is slow is left to its end', { timeout: 20_000 }, async () => {
  const [code, ms] = await timed(db.rows(sql`select pg_sleep(7)::text`))
  expect(code).toBe('answered')
  expect(ms).toBeGreaterThan(6_900)
})

test('while nothing comes through, each is told in a few seconds, inside of a transaction too', {
  timeout: 30_000,
}, async () => {
  await db.rows(sql`select 1`)
  proxy.freeze()
  const answers = await Promise.all([timed(db.rows(sql`select 1`)), timed(db.tx((tx) => tx.rows(sql`select 2`)))])
  for (const [code, ms] of answers) {
    expect(code).toBe('database_unavailable')
    expect(ms).toBeLessThan(7_000)
  }
  proxy.mend()
  expect(await db.rows(sql`select 3 as n`)).toEqual([{ n: 3 }])
})

test('a connection that alone was forgotten on the way is found out, though the server answers others', {
  timeout: 30_000,
}, async () => {
  const [{ pid } = { pid: 0 }] = await db.rows<{ pid: number }>(sql`select pg_backend_pid() as pid`)
  proxy.freezeOpen()
  const [code, ms] = await timed(db.rows(sql`select 1`))
  expect(code).toBe('database_unavailable')
  expect(ms).toBeLessThan(7_000)
  const [again] = await db.rows<{ pid: number }>(sql`select pg_backend_pid() as pid`)
  expect(again?.pid).not.toBe(pid)
})
