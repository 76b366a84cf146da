// What the model takes for one step is one on a real Postgres: a settlement that has to wait for the thread's lock sees what was
// decided under it.

import { v7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Database } from '../../src/db/db.ts'
import { commit, type Entry } from '../../src/db/journal.ts'
import * as newRuns from '../../src/db/new-runs.ts'
import { openDatabase } from '../../src/db/open.ts'
import * as queue from '../../src/db/queue.ts'
import * as runs from '../../src/db/runs.ts'
import { all, sql } from '../../src/db/sql.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { newRun } from '../support/new-run.ts'
import { until } from '../support/until.ts'

let home: TestDatabase
let db: Database
beforeAll(async () => {
  home = await createDatabase()
  db = await openDatabase({ uri: home.uri, poolSize: 4 }, () => {})
})
afterAll(async () => {
  await db.close()
  await home.drop()
})

/** A run that runs, and the settlement that its worker is about to write. */
async function running(): Promise<Entry> {
  const run = newRun({ worker_id: v7() })
  const made = await newRuns.insertWithThread(db, run)
  const { run_id, thread_id } = run
  const settle = {
    status: 'success',
    error: null,
    values: '{}',
    interrupts: {},
    settled_status: 'idle',
    last_seq: 1,
    doom: false,
  } as const
  const events = { first_seq: 1, last_seq: 1, at: 0, batch: '__end\t{}', base: null, size: null }
  return { run_id, thread_id, epoch: made?.epoch ?? 0, events, puts: [], writes: [], settle }
}

/** Sends the settlement while the thread is locked, does something under the lock, and lets both end. */
async function meanwhile(entry: Entry, decide: (tx: Parameters<Parameters<Database['tx']>[0]>[0]) => Promise<unknown>) {
  let settled: Promise<unknown> = Promise.resolve()
  await db.tx(async (tx) => {
    await runs.lockThread(tx, entry.thread_id, all)
    settled = commit(db, [entry]).then((written) => written.get(0) ?? 'unheld')
    await until('the settlement waits', async () => {
      const waiting = sql`select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
      return (await db.rows(waiting)).length === 1
    })
    await decide(tx)
  })
  const result = await settled
  const rows = await db.rows<{
    status: string
    held: boolean
    events: number
  }>(sql`select r.status, t.held_by is not null as held,
      (select count(*) from events e where e.thread_id = t.thread_id) as events
    from runs r join threads t using (thread_id) where r.run_id = ${entry.run_id}`)
  return [result, ...rows]
}

test('a settlement that waits while a rollback is wished for does not settle, and says nothing of an end', async () => {
  const entry = await running()
  expect(await meanwhile(entry, (tx) => runs.wishCancel(tx, [entry.run_id], 'rollback', 'because'))).toEqual([
    'unsettled',
    { status: 'running', held: true, events: 0 },
  ])
})

test('a settlement that waits while an interrupt is wished for settles', async () => {
  const entry = await running()
  expect(await meanwhile(entry, (tx) => runs.wishCancel(tx, [entry.run_id], 'interrupt', 'because'))).toEqual([
    'written',
    { status: 'success', held: false, events: 1 },
  ])
})

test('a settlement that waits while its run is given back is written nowhere', async () => {
  const entry = await running()
  expect(await meanwhile(entry, (tx) => queue.requeue(tx, [entry], { uncharge: false }))).toEqual([
    'unheld',
    { status: 'pending', held: false, events: 0 },
  ])
})
