// What takes a slot of a worker: a run as long as the executor is at it, with an executor that does what the test says.

import { v7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createMemoryBus } from '../../src/bus/memory.ts'
import type { Database } from '../../src/db/db.ts'
import { migrate } from '../../src/db/migrate.ts'
import * as newRuns from '../../src/db/new-runs.ts'
import { openDatabase } from '../../src/db/open.ts'
import * as queue from '../../src/db/queue.ts'
import * as runs from '../../src/db/runs.ts'
import { all, type Sql, sql } from '../../src/db/sql.ts'
import type { Executor } from '../../src/executor/executor.ts'
import type { Job, Outcome } from '../../src/executor/protocol.ts'
import { silent } from '../../src/observe.ts'
import { createJournal } from '../../src/worker/journal.ts'
import { createWorker } from '../../src/worker/worker.ts'
import { newRun } from '../support/new-run.ts'
import { until } from '../support/until.ts'

let database: Database
beforeAll(async () => {
  database = await openDatabase({ memory: true }, () => {})
  await migrate(database)
})
afterAll(() => database.close())

const done = { kind: 'success', state: { values: '{}', next: [], interrupts: {} } } as unknown as Outcome

/** A worker; `end` is what the executor says of a run, `write` lets the ends be written that wait for it. */
async function withSlots(slots: number) {
  const bus = createMemoryBus()
  const begun = new Map<string, (outcome: Outcome) => void>()
  let begins = 0
  const executor = {
    graphs: () => [{ graph_id: 'g' }],
    run({ run_id }: Job) {
      begins++
      return { outcome: new Promise((say) => begun.set(run_id, say)), abort: () => {} }
    },
  } as unknown as Executor
  let write = () => {}
  const written = new Promise<void>((resolve) => {
    write = resolve
  })
  const claims: number[] = []
  const db: Database = {
    ...database,
    async rows<T>(query: Sql) {
      const rows = await database.rows<T>(query)
      if (query.text.includes('skip locked')) claims.push(rows.length)
      return rows
    },
  }
  const worker = createWorker(
    {
      db,
      leaseDb: database,
      bus,
      executor,
      journal: (trusted) => createJournal({ db: database, bus, observe: silent, trusted }),
      observe: silent,
      onSettled: () => {},
      fail: async (name) => (name === 'before_finalize' ? written : undefined),
    },
    {
      slots,
      maxAttempts: 3,
      runTimeoutSeconds: 60,
      leaseSeconds: 60,
      abortGraceMs: 1_000,
      pollMs: 60_000,
      stream: { maxBytes: 1_000_000, maxEvents: 1_000 },
    },
  )
  await worker.start()
  return {
    worker,
    bus,
    write,
    begins: () => begins,
    claims,
    isFree() {
      const reserved = worker.reserve(v7())
      reserved?.release()
      return reserved !== undefined
    },
    begun: (runId: string) => until('the run is begun', () => begun.has(runId)),
    hasBegun: (runId: string) => begun.has(runId),
    end: (runId: string) => begun.get(runId)?.(done),
  }
}

/** A run that waits for a worker. */
async function waiting(): Promise<string> {
  const run = newRun()
  await newRuns.insertWithThread(database, run)
  return run.run_id
}

test('the next run begins while the end of the one before is written, but no more wait for that than there are slots', async () => {
  const ids = [await waiting(), await waiting(), await waiting()] as const
  const { worker, write, begun, hasBegun, isFree, end } = await withSlots(1)
  await begun(ids[0])
  expect(isFree()).toBe(false)
  end(ids[0])
  await begun(ids[1])
  expect((await runs.get(database, null, ids[0], all))?.status).toBe('running')
  expect(isFree()).toBe(false)
  end(ids[1])
  await new Promise(setImmediate)
  expect([isFree(), hasBegun(ids[2])]).toEqual([false, false])

  write()
  await begun(ids[2])
  end(ids[2])
  await until('the slot is free', isFree)
  await until('all are written', async () => {
    const rows = await Promise.all(ids.map((id) => runs.get(database, null, id, all)))
    return rows.every((row) => row?.status === 'success')
  })
  const last = worker.reserve(v7())
  expect(isFree()).toBe(false)
  last?.release()
  await worker.stop(1_000)
})

test('a run that was lost and comes back while its first end is still written takes the slot', async () => {
  const run_id = await waiting()
  const { worker, bus, write, begins, begun, isFree, end } = await withSlots(1)
  await begun(run_id)
  end(run_id)
  await until('its end is being written', isFree)
  const held = await database.rows<{ run_id: string; thread_id: string; epoch: number }>(
    sql`select held_by as run_id, thread_id, epoch from threads where held_by = ${run_id}`,
  )
  await queue.requeue(database, held, { uncharge: false })
  bus.publish('runs', { hint: { waiting: true } })
  await until('it is begun again', () => begins() === 2)
  await new Promise(setImmediate)
  expect(isFree()).toBe(false)
  end(run_id)
  write()
  await until('it is done', async () => (await runs.get(database, null, run_id, all))?.status === 'success')
  await worker.stop(1_000)
})

test('slots that come free together are filled by one claim', async () => {
  const ids = await Promise.all(Array.from({ length: 9 }, waiting))
  const { worker, write, claims, begun, end } = await withSlots(3)
  write()
  for (const from of [0, 3, 6]) {
    const three = ids.slice(from, from + 3)
    await Promise.all(three.map(begun))
    for (const id of three) end(id)
  }
  expect(claims).toEqual([3, 3, 3])
  await worker.stop(1_000)
})

test('a run that came while the slot was kept for another begins when that is not made after all', async () => {
  const { worker, bus, write, begun, hasBegun, end } = await withSlots(1)
  write()
  const kept = worker.reserve(v7())
  const runId = await waiting()
  bus.publish('runs', { hint: { waiting: true } })
  await new Promise(setImmediate)
  expect(hasBegun(runId)).toBe(false)
  kept?.release()
  await begun(runId)
  end(runId)
  await worker.stop(1_000)
})
