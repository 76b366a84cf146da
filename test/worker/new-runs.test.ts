// Runs that are made in one statement with others: each as it was asked for, and none kept waiting by another. On Postgres, where
// others can hold a thread.

import { v7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Database, Db } from '../../src/db/db.ts'
import { migrate } from '../../src/db/migrate.ts'
import { insertFree, insertWithThread, type NewRun } from '../../src/db/new-runs.ts'
import { openDatabase } from '../../src/db/open.ts'
import * as runs from '../../src/db/runs.ts'
import { all, sql } from '../../src/db/sql.ts'
import * as threads from '../../src/db/threads.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { newRun } from '../support/new-run.ts'
import { until } from '../support/until.ts'

let home: TestDatabase
let db: Database
beforeAll(async () => {
  home = await createDatabase()
  db = await openDatabase({ uri: home.uri, poolSize: 8 }, () => {})
  await migrate(db)
})
afterAll(async () => {
  await db.close()
  await home.drop()
})

const newRunOn = (thread_id: string, more: Partial<NewRun> = {}): NewRun => newRun({ thread_id, ...more })
const newThread = async (metadata = {}) =>
  (await threads.create(db, { thread_id: v7(), metadata, isNew: true }, 'raise', all)).thread_id

/** The database, and how many statements it was sent. */
function counted(): [Db, () => number] {
  let statements = 0
  const rows: Db['rows'] = (query) => {
    statements++
    return db.rows(query)
  }
  return [{ ...db, rows }, () => statements]
}

interface Stored {
  run_id: string
  status: string
  attempt: number
  delay: number
  thread: { held_by: string | null; metadata: unknown }
}

const stored = (ids: readonly string[]): Promise<Stored[]> =>
  db.rows<Stored>(sql`select r.run_id, r.status, r.attempt, round(extract(epoch from r.available_at - r.created_at))::int as delay,
      json_build_object('held_by', t.held_by, 'metadata', t.metadata) as thread
    from runs r join threads t using (thread_id) where r.run_id = any(${ids}::uuid[]) order by r.ordinal`)

test('runs that are asked for at once are made in one statement, in their order, each as it was asked for', async () => {
  const [over, statements] = counted()
  const worker = v7()
  const own = await Promise.all(Array.from({ length: 30 }, (_, i) => newThread({ own: i, both: 'thread' })))
  const asked = own.map((thread, i) =>
    newRunOn(thread, {
      metadata: { i, all: 'run' },
      defaults: { both: 'assistant', all: 'assistant', default: i },
      kwargs: { input: { text: `"${i}" \u0000 \ud800 ,{}[]`, list: [null, i] } },
      multitask_strategy: i % 2 === 0 ? 'reject' : 'enqueue',
      after_seconds: i % 3 === 0 ? 60 : 0,
      worker_id: i % 3 === 1 ? worker : null,
    }),
  )
  const made = await Promise.all(asked.map((run) => insertFree(over, run, sql`true`)))
  expect(statements()).toBe(1)
  const rows = await stored(asked.map(({ run_id }) => run_id))
  for (const [i, { run_id, thread_id, assistant_id, kwargs, multitask_strategy, worker_id }] of asked.entries()) {
    const status = worker_id === null ? 'pending' : 'running'
    const metadata = { own: i, both: 'thread', i, all: 'run', default: i, assistant_id, graph_id: 'g' }
    expect(made[i]).toMatchObject({ run_id, thread_id, assistant_id, status, kwargs, multitask_strategy, metadata })
    expect([made[i]?.last_seq, made[i]?.state_updated_at, made[i]?.cancel_reason]).toEqual([0, null, null])
    expect(rows[i]).toMatchObject({ run_id, status, attempt: worker_id === null ? 0 : 1, delay: i % 3 === 0 ? 60 : 0 })
    const held = {
      held_by: worker_id === null ? null : run_id,
      metadata: { own: i, both: 'thread', assistant_id, graph_id: 'g' },
    }
    expect(rows[i]?.thread).toMatchObject(held)
  }
})

test('runs with threads of their own are made in one statement, but none on a thread that exists', async () => {
  const [over, statements] = counted()
  const taken = await newThread()
  const [one, other, late] = [newRunOn(v7(), { worker_id: v7() }), newRunOn(v7(), { temporary: true }), newRunOn(taken)]
  const made = await Promise.all(
    [one, other, late].map((run) => insertWithThread(over, run, undefined, { ttl: 5, strategy: 'delete' })),
  )
  expect([statements(), made.map((row) => row?.run_id)]).toEqual([1, [one.run_id, other.run_id, undefined]])
  expect(made.map((row) => row?.status)).toEqual(['running', 'pending', undefined])
  const rows = await stored([one.run_id, other.run_id])
  const stamp = { graph_id: 'g', assistant_id: one.assistant_id }
  expect(rows.map(({ thread }) => thread)).toMatchObject([{ held_by: one.run_id, metadata: stamp }, { held_by: null }])
  const ttl = await db.rows(
    sql`select ttl_minutes, expires_at is not null as ends from threads where thread_id = ${one.thread_id}`,
  )
  expect(ttl).toEqual([{ ttl_minutes: 5, ends: true }])
})

test('a thread that somebody has locked keeps no other waiting', async () => {
  const [held, open] = [await newThread(), await newThread()]
  const made = await db.tx(async (tx) => {
    await runs.lockThread(tx, held, all)
    return Promise.all([held, open].map((thread) => insertFree(db, newRunOn(thread), sql`true`)))
  })
  expect(made.map((row) => row?.thread_id)).toEqual([undefined, open])
  expect((await insertFree(db, newRunOn(held), sql`true`))?.thread_id).toBe(held)
})

test('a thread whose id somebody is just using keeps no thread with a new id waiting', async () => {
  const [named, other] = [v7(), v7()]
  const made = await db.tx(async (tx) => {
    await threads.create(tx, { thread_id: named }, 'raise', all)
    const same = threads.create(db, { thread_id: named }, 'do_nothing', all)
    const free = await threads.create(db, { thread_id: other, isNew: true }, 'raise', all)
    return { same, free }
  })
  expect([made.free.thread_id, (await made.same).thread_id]).toEqual([other, named])
})

test('of two for one thread one finds it busy', async () => {
  const thread = await newThread()
  const made = await Promise.all([1, 2].map(() => insertFree(db, newRunOn(thread), sql`true`)))
  const [first, ...others] = made.filter((row) => row !== undefined)
  expect([first?.thread_id, others]).toEqual([thread, []])
  expect((await runs.active(db, thread)).map(({ run_id }) => run_id)).toEqual([first?.run_id])
})

test('a run that is made on a thread after the statement for another has begun keeps that one from being made', async () => {
  const thread = await newThread()
  const late = await db.tx(async (tx) => {
    await tx.rows(sql`select pg_advisory_xact_lock(7)`)
    const result = insertFree(db, newRunOn(thread), sql`(select pg_advisory_xact_lock_shared(7)) is not null`)
    await until('the statement has begun and waits', async () => {
      const waiting = sql`select 1 from pg_locks where locktype = 'advisory' and not granted
        and database = (select oid from pg_database where datname = current_database())`
      return (await db.rows(waiting)).length === 1
    })
    expect((await insertFree(db, newRunOn(thread), sql`true`))?.thread_id).toBe(thread)
    return { result }
  })
  expect(await late.result).toBeUndefined()
})

test('those of whom different things must hold are asked apart', async () => {
  const [mine, yours] = [await newThread({ owner: 'a' }), await newThread({ owner: 'b' })]
  const of = (owner: string) => sql`threads.metadata ->> 'owner' = ${owner}`
  const asked: [string, string][] = [
    [mine, 'a'],
    [mine, 'b'],
    [yours, 'b'],
    [yours, 'a'],
  ]
  const made = await Promise.all(asked.map(([thread, owner]) => insertFree(db, newRunOn(thread), of(owner))))
  expect(made.map((row) => row?.thread_id)).toEqual([mine, undefined, yours, undefined])
})

test('what the database refuses of one is said to that one only', async () => {
  const [one, other] = [await newThread(), await newThread()]
  const bad = newRunOn(one, { after_seconds: 1e300 })
  const [refused, made] = await Promise.allSettled([
    insertFree(db, bad, sql`true`),
    insertFree(db, newRunOn(other), sql`true`),
  ])
  expect(refused).toMatchObject({ status: 'rejected' })
  expect(made).toMatchObject({ status: 'fulfilled', value: { thread_id: other } })
  expect((await insertFree(db, newRunOn(one), sql`true`))?.thread_id).toBe(one)
})
