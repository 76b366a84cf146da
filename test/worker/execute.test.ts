// How a run ends whose wishes to be stopped meet its end, with an executor that does what the test says.

import { v7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createMemoryBus } from '../../src/bus/memory.ts'
import type { Database, Db } from '../../src/db/db.ts'
import * as events from '../../src/db/events.ts'
import { migrate } from '../../src/db/migrate.ts'
import * as newRuns from '../../src/db/new-runs.ts'
import { openDatabase } from '../../src/db/open.ts'
import * as runs from '../../src/db/runs.ts'
import { all } from '../../src/db/sql.ts'
import { ApiError } from '../../src/errors.ts'
import type { Executor } from '../../src/executor/executor.ts'
import type { AbortReason, Outcome } from '../../src/executor/protocol.ts'
import { silent } from '../../src/observe.ts'
import { execute } from '../../src/runs/execute.ts'
import { createJournal } from '../../src/worker/journal.ts'
import { newRun } from '../support/new-run.ts'

let database: Database
beforeAll(async () => {
  database = await openDatabase({ memory: true }, () => {})
  await migrate(database)
})
afterAll(() => database.close())

/** A run that a worker has just begun; `outcome` is what the executor says of it. Its journal's database never fails. */
async function begin(db: Db = database) {
  const run = newRun({ worker_id: v7() })
  const made = await newRuns.insertWithThread(database, run)
  if (made === undefined) throw new Error('the thread was there')
  const { epoch, last_seq, state_updated_at } = made
  const claimed = { ...run, epoch, last_seq, state_updated_at, attempt: 1, begun: false, waited_ms: 0 }
  let say: (outcome: Outcome) => void = () => {}
  const outcome = new Promise<Outcome>((resolve) => {
    say = resolve
  })
  const told: AbortReason[] = []
  const executor = { run: () => ({ outcome, abort: (why: AbortReason) => told.push(why) }) } as unknown as Executor
  const journal = createJournal({ db: database, bus: createMemoryBus(), observe: silent, trusted: () => true })
  const held = { run_id: run.run_id, thread_id: run.thread_id, epoch, seq: last_seq }
  const lent = { append: (what: Parameters<typeof journal.append>[1]) => journal.append(held, what) }
  const settings = { maxAttempts: 3, runTimeoutSeconds: 60, abortGraceMs: 60_000, continues: false }
  const execution = execute({ db, executor, journal: lent, onOutcome: () => {}, ...settings }, claimed)
  const { run_id, thread_id } = run
  return { run_id, thread_id, execution, told, outcome: say, row: () => runs.get(database, null, run_id, all) }
}

const state = { values: '{}', next: [], interrupts: {} } as unknown as NonNullable<
  Extract<Outcome, { kind: 'success' }>['state']
>

test('a rollback that is asked for while the run is being cancelled is what happens', async () => {
  const { execution, outcome, row } = await begin()
  execution.abort('cancel')
  execution.abort('rollback')
  execution.abort('cancel')
  outcome({ kind: 'aborted', reason: 'cancel' })
  expect(await execution.finished).toEqual({ as: 'removed' })
  expect(await row()).toBeUndefined()
})

test('a run that was done before it heard that it is to be rolled back is rolled back', async () => {
  const { execution, outcome, row } = await begin()
  execution.abort('rollback')
  outcome({ kind: 'success', state })
  expect(await execution.finished).toEqual({ as: 'removed' })
  expect(await row()).toBeUndefined()
})

test('a run that ends before anybody tells it that it is to be rolled back is rolled back', async () => {
  const { execution, outcome, row, run_id, thread_id } = await begin()
  await database.tx(async (tx) => {
    await runs.lockThread(tx, thread_id, all)
    await runs.wishCancel(tx, [run_id], 'rollback', 'because')
  })
  outcome({ kind: 'success', state })
  expect(await execution.finished).toEqual({ as: 'removed' })
  expect(await row()).toBeUndefined()
  const { batches: log } = await events.after(database, thread_id, 0)
  expect(log.map(({ batch }) => batch)).toEqual(['__end\t{"status":"interrupted"}'])
})

test('what a run came to whose worker lost its lease is not its end', async () => {
  const { execution, outcome, row } = await begin()
  execution.abort('lease_lost')
  outcome({ kind: 'success', state })
  expect(await execution.finished).toEqual({ as: 'lost' })
  expect((await row())?.status).toBe('running')
})

test('a run that was done before it heard that it is cancelled is done', async () => {
  const { execution, outcome, row } = await begin()
  execution.abort('cancel')
  outcome({ kind: 'success', state })
  expect(await execution.finished).toMatchObject({ as: 'settled', status: 'success' })
  expect((await row())?.status).toBe('success')
})

test('a run that cannot be given back because of an outage is left to be rescued, not ended as an error', async () => {
  const down = async () => Promise.reject(new ApiError('database_unavailable'))
  const { execution, outcome, row } = await begin({ ...database, rows: down })
  outcome({ kind: 'crashed', cause: 'was killed', blame: 'culprit' })
  expect(await execution.finished).toEqual({ as: 'lost' })
  expect((await row())?.status).toBe('running')
})
