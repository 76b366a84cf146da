// Who owns a run: claiming, losing and rescuing it, by many at once.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { createMemoryBus } from '../../src/bus/memory.ts'
import * as queue from '../../src/db/queue.ts'
import { sql } from '../../src/db/sql.ts'
import type { Observation } from '../../src/observe.ts'
import { rescue } from '../../src/worker/rescuer.ts'
import { until } from '../support/until.ts'
import { createDice, createStage, newThread, observed, settlements } from './rows/stage.ts'

const stage = createStage()

/** Runs on threads of their own, `each` on one thread; gives nothing back, as if clients had made them. */
const insertRuns = (threads: number, each: number) =>
  stage.query(
    `with t as (insert into threads (thread_id, metadata) select gen_random_uuid(), '{}' from generate_series(1, $1)
        returning thread_id)
      insert into runs (run_id, thread_id, assistant_id, graph_id, status, metadata, kwargs, multitask_strategy)
      select gen_random_uuid(), thread_id, gen_random_uuid(), 'g', 'pending', '{}', '{}', 'enqueue'
      from t, generate_series(1, $2) as n order by n`,
    [threads, each],
  )

const planner = [
  'hashjoin',
  'mergejoin',
  'nestloop',
  'seqscan',
  'indexscan',
  'bitmapscan',
  'material',
  'memoize',
  'sort',
]

test('row 18: of 16 claimers at once, however Postgres plans, one gets each run, in order, and no batch is over its limit', {
  timeout: 60_000,
}, async () => {
  await insertRuns(1_200, 1)
  await insertRuns(200, 4)
  const claims = new Map<string, number>()
  const order = new Map<string, number[]>()
  const sizes: string[] = []
  const ordinals = new Map(
    (await stage.query<{ run_id: string; ordinal: string }>('select run_id, ordinal from runs')).map((row) => [
      row.run_id,
      Number(row.ordinal),
    ]),
  )
  const claimer = async (number: number) => {
    const dice = createDice(number)
    const db = await stage.database()
    for (const method of planner) await db.script(`set enable_${method} = ${dice.below(3) > 0 ? 'on' : 'off'}`)
    const name = v7()
    while (claims.size < 2_000) {
      const limit = 1 + dice.below(8)
      const claimed = await queue.claim(db, name, limit, ['g'])
      if (claimed.length > limit) sizes.push(`${claimed.length} of ${limit}`)
      for (const { run_id, thread_id } of claimed) {
        claims.set(run_id, (claims.get(run_id) ?? 0) + 1)
        order.set(thread_id, [...(order.get(thread_id) ?? []), ordinals.get(run_id) as number])
      }
      // Ended at once, so that the next of the thread may be claimed by anybody.
      const ids = claimed.map(({ run_id }) => run_id)
      await db.rows(sql`with t as (update threads set held_by = null, epoch = epoch + 1 where held_by = any(${ids}::uuid[]))
        update runs set status = 'success', worker_id = null where run_id = any(${ids}::uuid[])`)
    }
  }
  await Promise.all(Array.from({ length: 16 }, (_, i) => claimer(i + 1)))
  expect(claims.size).toBe(2_000)
  expect([...claims.values()].filter((count) => count !== 1)).toEqual([])
  expect(sizes).toEqual([])
  for (const numbers of order.values()) expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
  expect(await stage.query('select status, attempt, count(*)::int from runs group by 1, 2')).toEqual([
    { status: 'success', attempt: 1, count: 2_000 },
  ])
})

test('row 19: a run whose lease passed on without a word ends once, by its new owner; the old one writes nothing', async () => {
  const { made } = stage
  const server = await stage.heddle()
  const threadId = await newThread(server)
  const gate = v7()
  const run = await server.client.runs.create(threadId, 'steps', { input: { log: ['in'], hold: { second: gate } } })
  await made.gates.reached(gate)
  await until('first is stored', async () => {
    const { values } = await server.client.threads.getState<{ log?: string[] }>(threadId)
    return values.log?.length === 2
  })
  await stage.query('update threads set epoch = epoch + 1 where thread_id = $1', [threadId])
  made.gates.open(gate)
  await until('the old owner knows', () => observed(server, 'run_lease_lost', run.run_id))
  expect(settlements([server], run.run_id)).toEqual([])
  expect(await stage.query('select status from runs')).toEqual([{ status: 'running' }])
  expect(await server.client.runs.join(threadId, run.run_id)).toMatchObject({ log: ['in', 'first', 'second', 'third'] })
  expect(settlements([server], run.run_id)).toEqual(['success'])
  expect(await server.client.runs.get(threadId, run.run_id)).toMatchObject({ status: 'success' })
  expect(made.ran.filter(({ node }) => node === 'first')).toEqual([{ node: 'first', run_id: run.run_id, attempt: 1 }])
  const history = await server.client.threads.getHistory<{ log: string[] }>(threadId)
  expect(history.map(({ values }) => values.log?.length ?? 0)).toEqual([4, 3, 2, 1, 0])
})

test('row 20: of 8 rescuers at once, one puts each lost run back or ends it, and nobody charges it', async () => {
  await insertRuns(60, 1)
  await stage.query(`with t as (update threads t set held_by = run_id, epoch = 1 from runs r where r.thread_id = t.thread_id)
    update runs set status = 'running', worker_id = gen_random_uuid(), attempt = 1 + ordinal % 3`)
  const before = await stage.query<{ run_id: string; attempt: number }>('select run_id, attempt from runs')
  const seen: Observation[] = []
  const bus = createMemoryBus(() => {})
  const rescuers = await Promise.all(Array.from({ length: 8 }, () => stage.database()))
  const dealt = await Promise.all(
    rescuers.map((db) => rescue({ db, bus, observe: (one) => seen.push(one), maxAttempts: 3 })),
  )
  expect(dealt.reduce((sum, count) => sum + count, 0)).toBe(60)
  const again = seen.flatMap((one) => (one.kind === 'runs_rescued' ? one.run_ids : []))
  const ended = seen.flatMap((one) => (one.kind === 'runs_rescued' ? one.exhausted : []))
  expect(again.toSorted()).toEqual(before.flatMap(({ run_id, attempt }) => (attempt < 3 ? [run_id] : [])).toSorted())
  expect(ended.toSorted()).toEqual(before.flatMap(({ run_id, attempt }) => (attempt < 3 ? [] : [run_id])).toSorted())
  const rows = await stage.query(`select r.status, r.attempt, t.held_by, t.epoch::int, count(*)::int,
      (select count(*)::int from events e where e.thread_id = min(t.thread_id::text)::uuid) as batches
    from runs r join threads t using (thread_id) group by 1, 2, 3, 4 order by 2`)
  expect(rows).toEqual([
    { status: 'pending', attempt: 1, held_by: null, epoch: 2, count: 20, batches: 0 },
    { status: 'pending', attempt: 2, held_by: null, epoch: 2, count: 20, batches: 0 },
    { status: 'error', attempt: 3, held_by: null, epoch: 2, count: 20, batches: 1 },
  ])
  expect(await rescue({ db: rescuers[0] as (typeof rescuers)[0], bus, observe: () => {}, maxAttempts: 3 })).toBe(0)
})
