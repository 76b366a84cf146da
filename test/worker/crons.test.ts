// Firing crons: each slot once over any number of schedulers, by a clock that the tests set. The real clock is in
// crons-clock.test.ts.

import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { CronPatch } from '../../src/contract/crons.ts'
import * as crons from '../../src/db/crons.ts'
import * as queue from '../../src/db/queue.ts'
import { all, sql } from '../../src/db/sql.ts'
import * as threads from '../../src/db/threads.ts'
import { ApiError } from '../../src/errors.ts'
import { createRegistry, defaultAssistantId, ensureAssistants } from '../../src/graph/registry.ts'
import { createRun, newIds } from '../../src/runs/create.ts'
import { changeCron, runOf } from '../../src/runs/crons.ts'
import { fireDue } from '../../src/runs/fire.ts'
import { type CronParts, createCronParts, minute } from '../support/cron-parts.ts'
import { expected, fields, moments, textOf, zones } from '../support/cron-slots.ts'

let on: CronParts
beforeAll(async () => {
  on = await createCronParts(3)
})
afterAll(() => on.close())

const NOON = '2026-05-05T12:00:00Z'
const slotsOf = async (cronId: string) => (await on.runs(cronId)).map(({ slot }) => slot)
const fireAt = async (time: string) => {
  await on.set(time)
  await on.fire()
}
const newThread = async () => {
  const thread_id = crypto.randomUUID()
  await threads.create(on.db, { thread_id }, 'raise', all)
  return thread_id
}

describe('three schedulers at once', () => {
  const failed = () => on.seen.filter(({ kind }) => kind === 'background_failed' || kind === 'cron_not_fired')
  beforeEach(() => expect(failed()).toEqual([]))
  afterEach(() => expect(failed(), "they got into each other's way").toEqual([]))

  test('create one run for each slot of each cron', async () => {
    await on.set(NOON)
    const made = await Promise.all(Array.from({ length: 200 }, () => on.cron({ schedule: '5 12 * * *' })))
    await fireAt('2026-05-05T12:05:00.2Z')
    for (const cronId of made) expect(await slotsOf(cronId)).toEqual(['2026-05-05T12:05Z'])
    const { next_run_date } = await on.get(made[0] as string)
    expect(next_run_date).toBe('2026-05-06T12:05:00+00:00')
    for (const cronId of made) await crons.remove(on.db, cronId, all)
  })

  test('create a run for every minute of two hours, none twice', async () => {
    await on.set(NOON)
    const threadId = await newThread()
    const made = [
      await on.cron({ schedule: '* * * * *' }),
      await on.cron({ schedule: '* * * * *', thread_id: threadId }),
    ]
    const start = Date.parse(NOON)
    const minutes = Array.from({ length: 120 }, (_, i) => new Date(start + (i + 1) * 60_000).toISOString())
    for (const time of minutes) await fireAt(time)
    for (const cronId of made) {
      expect(await slotsOf(cronId)).toEqual(minutes.map(minute))
      await crons.remove(on.db, cronId, all)
    }
  }, 60_000)
})

test('a slot that has a run can be given no other, whatever a scheduler does', async () => {
  await on.set(NOON)
  const cronId = await on.cron({ schedule: '@hourly' })
  await fireAt('2026-05-05T13:00:00Z')
  const [run] = await on.runs(cronId)
  const again = { cron_id: cronId, slot: '2026-05-05T13:00:00Z', run_id: run?.run_id ?? '', next_run_date: null }
  await expect(crons.decide(on.db, [{ ...again, failures: 0, error: null, disable: null }])).rejects.toThrow(
    /cron_runs_pkey/,
  )
  await crons.remove(on.db, cronId, all)
})

test('a run is created as the cron says, and says whose it is', async () => {
  await on.set(NOON)
  const payload = { input: { a: 1 }, config: { tags: ['t'] }, stream_mode: 'updates', durability: 'exit' }
  const cronId = await on.cron({ schedule: '@hourly', payload, metadata: { team: 'a' }, on_run_completed: 'keep' })
  await fireAt('2026-05-05T13:00:00.9Z')
  const [run] = await on.runs(cronId)
  expect(run).toMatchObject({
    status: 'pending',
    metadata: { team: 'a', cron_id: cronId, cron_slot: '2026-05-05T13:00:00.000Z', graph_id: 'g' },
    kwargs: { input: { a: 1 }, config: { tags: ['t'] }, stream_mode: ['updates'], durability: 'exit' },
  })
  expect(run?.metadata).not.toHaveProperty('cron_catch_up')
  expect(await on.db.rows(sql`select temporary from runs where run_id = ${run?.run_id}`)).toEqual([
    { temporary: false },
  ])
  expect(on.seen).toContainEqual({
    kind: 'cron_fired',
    cron_id: cronId,
    slot: '2026-05-05T13:00:00.000Z',
    run_id: run?.run_id,
    late_ms: 900,
  })
  await crons.remove(on.db, cronId, all)
})

test('after an outage a cron fires once, for its latest slot, and the run says so', async () => {
  await on.set(NOON)
  const cronId = await on.cron({ schedule: '*/10 * * * *' })
  await fireAt('2026-05-05T13:07:30Z')
  const runs = await on.runs(cronId)
  expect(runs.map(({ slot }) => slot)).toEqual(['2026-05-05T13:00Z'])
  expect(runs[0]?.metadata.cron_catch_up).toEqual({ since: '2026-05-05T12:10:00.000Z', late_seconds: 450 })
  await fireAt('2026-05-05T13:10:00Z')
  expect(await slotsOf(cronId)).toEqual(['2026-05-05T13:00Z', '2026-05-05T13:10Z'])
  expect((await on.runs(cronId))[1]?.metadata).not.toHaveProperty('cron_catch_up')
  await crons.remove(on.db, cronId, all)
})

test('a clock that is put back makes no slot due again', async () => {
  await on.set(NOON)
  const cronId = await on.cron({ schedule: '* * * * *' })
  await fireAt('2026-05-05T12:30:00Z')
  await fireAt('2026-05-05T12:10:00Z')
  await fireAt('2026-05-05T12:30:59Z')
  expect(await slotsOf(cronId)).toEqual(['2026-05-05T12:30Z'])
  await fireAt('2026-05-05T12:31:00Z')
  expect(await slotsOf(cronId)).toEqual(['2026-05-05T12:30Z', '2026-05-05T12:31Z'])
  await crons.remove(on.db, cronId, all)
})

test('a slot at the end of a cron is its last, and what was missed is not made up for after the end', async () => {
  await on.set(NOON)
  const ends = { schedule: '*/10 * * * *', end_time: '2026-05-05T12:20:00Z' }
  const inTime = await on.cron(ends)
  const missed = await on.cron(ends)
  const disabled = await on.cron({ schedule: '* * * * *', enabled: false })
  await on.db.rows(sql`update crons set next_run_date = '2026-05-05T12:20:00Z' where cron_id = ${inTime}`)
  await fireAt('2026-05-05T12:20:01Z')
  expect(await slotsOf(inTime)).toEqual(['2026-05-05T12:20Z'])
  await on.fire()
  expect(await slotsOf(missed)).toEqual([])
  for (const cronId of [inTime, missed]) {
    expect(await on.get(cronId)).toMatchObject({ next_run_date: null, enabled: true, disabled_reason: null })
  }
  expect(await slotsOf(disabled)).toEqual([])
})

describe('on a busy thread', () => {
  const busy = async (strategy: string) => {
    await on.set(NOON)
    const threadId = await newThread()
    const before = newIds(threadId)
    const body = runOf({ assistant_id: 'g', payload: {}, metadata: {}, on_run_completed: null })
    await createRun(on.scheduler(), { thread_id: threadId, body, visible: all }, before, null)
    const payload = { multitask_strategy: strategy }
    const cronId = await on.cron({ schedule: '@hourly', thread_id: threadId, payload })
    await fireAt('2026-05-05T13:00:00Z')
    const earlier = await on.db.rows<{ status: string }>(sql`select status from runs where run_id = ${before.run_id}`)
    return { cronId, runs: await on.runs(cronId), earlier: earlier.map(({ status }) => status), before }
  }

  test('"enqueue" waits behind the other run', async () => {
    expect(await busy('enqueue')).toMatchObject({ runs: [{ status: 'pending' }], earlier: ['pending'] })
  })
  test('"interrupt" ends the other run', async () => {
    expect(await busy('interrupt')).toMatchObject({ runs: [{ status: 'pending' }], earlier: ['interrupted'] })
  })
  test('"rollback" removes the other run', async () => {
    expect(await busy('rollback')).toMatchObject({ runs: [{ status: 'pending' }], earlier: [] })
  })
  test('"reject" creates no run for this slot, and says why; the next slot is another matter', async () => {
    const { cronId, runs, earlier, before } = await busy('reject')
    expect({ runs, earlier }).toEqual({ runs: [], earlier: ['pending'] })
    const words = `The thread is busy with run ${before.run_id}: wait for it, cancel it, or use another multitask_strategy.`
    expect(await on.get(cronId)).toMatchObject({
      enabled: true,
      last_error: words,
      next_run_date: '2026-05-05T14:00:00+00:00',
    })
    for (const hour of [14, 15, 16, 17, 18, 19]) await fireAt(`2026-05-05T${hour}:00:00Z`)
    expect(await on.get(cronId)).toMatchObject({ enabled: true, last_error: words })
    await on.db.rows(sql`update runs set status = 'success' where run_id = ${before.run_id}`)
    await fireAt('2026-05-05T20:00:00Z')
    expect(await slotsOf(cronId)).toEqual(['2026-05-05T20:00Z'])
    expect((await on.get(cronId)).last_error).toBeNull()
  })
})

describe('a cron whose runs cannot be created', () => {
  test('is disabled at once when its assistant is gone', async () => {
    await on.set(NOON)
    const gone = crypto.randomUUID()
    const cronId = await on.cron({ schedule: '@hourly', assistant_id: gone })
    await fireAt('2026-05-05T13:00:00Z')
    const reason = `The assistant ${gone} does not exist.`
    const { rows } = await crons.search(on.db, { enabled: false }, { limit: 100, offset: 0 }, all)
    expect(rows.find(({ cron_id }) => cron_id === cronId)).toMatchObject({
      disabled_reason: reason,
      next_run_date: null,
    })
    expect(on.seen).toContainEqual(
      expect.objectContaining({ kind: 'cron_not_fired', cron_id: cronId, reason, disabled: true }),
    )
  })

  test('is disabled after five slots in a row, and not when one of them succeeds', async () => {
    await on.set(NOON)
    const cronId = await on.cron({ schedule: '* * * * *' })
    const failAt = async (from: number, count: number) => {
      on.graph.error = 'The file graph.ts has no export "g".'
      for (let i = from; i < from + count; i++) await fireAt(`2026-05-05T12:${String(i).padStart(2, '0')}:00Z`)
      delete on.graph.error
    }
    await failAt(1, 4)
    expect(await on.get(cronId)).toMatchObject({ enabled: true, last_error: 'The file graph.ts has no export "g".' })
    await fireAt('2026-05-05T12:05:00Z')
    expect(await slotsOf(cronId)).toEqual(['2026-05-05T12:05Z'])
    await failAt(6, 4)
    expect((await on.get(cronId)).enabled).toBe(true)
    await failAt(10, 1)
    expect(await on.get(cronId)).toMatchObject({
      enabled: false,
      next_run_date: null,
      disabled_reason: 'The last 5 runs could not be created: The file graph.ts has no export "g".',
    })
  })

  test('does not hold up the others, even if the database refuses its run', async () => {
    await on.set(NOON)
    await on.db.rows(sql`create function refuse() returns trigger language plpgsql as
      $$ begin if new.metadata ? 'poison' then raise 'no such run'; end if; return new; end $$`)
    await on.db.rows(sql`create trigger refuse before insert on runs for each row execute function refuse()`)
    const first = await on.cron({ schedule: '* * * * *' })
    const poisoned = await on.cron({ schedule: '* * * * *', metadata: { poison: true } })
    const last = await on.cron({ schedule: '* * * * *' })
    const slots = [1, 2, 3, 4, 5, 6].map((i) => `2026-05-05T12:0${i}Z`)
    for (const slot of slots) await fireAt(slot)
    expect(await slotsOf(first)).toEqual(slots)
    expect(await slotsOf(last)).toEqual(slots)
    expect(await on.get(poisoned)).toMatchObject({
      enabled: false,
      disabled_reason: 'The last 5 runs could not be created: The server failed to create the run. Its log says why.',
    })
    await on.db.rows(sql`drop trigger refuse on runs`)
    for (const cronId of [first, last]) await crons.remove(on.db, cronId, all)
  })

  test('is disabled when its time zone is none any more', async () => {
    await on.set(NOON)
    const cronId = await on.cron({ schedule: '* * * * *' })
    await on.db.rows(sql`update crons set timezone = 'Mars/Olympus' where cron_id = ${cronId}`)
    await fireAt('2026-05-05T12:01:00Z')
    expect((await on.get(cronId)).disabled_reason).toMatch(/^body.timezone: must be the name of a time zone/)
  })
})

test('a cron of a graph that only another worker serves is left to it, while it lives', async () => {
  await on.set(NOON)
  const other = { graph_id: 'h', description: null }
  await ensureAssistants(on.db, [other])
  const assistant_id = defaultAssistantId('h')
  const cronId = await on.cron({ schedule: '* * * * *', assistant_id })
  const worker = crypto.randomUUID()
  await queue.renew(on.db, worker, 3_600, ['h'])
  await fireAt('2026-05-05T12:01:00Z')
  expect(await on.get(cronId)).toMatchObject({ last_error: null, next_run_date: '2026-05-05T12:01:00+00:00' })
  const registry = createRegistry({ executor: { graphs: () => [other] } })
  await fireDue(on.scheduler({ registry, known: new Map() }))
  expect(await slotsOf(cronId)).toEqual(['2026-05-05T12:01Z'])
  await queue.leave(on.db, worker)
  await fireAt('2026-05-05T12:02:00Z')
  expect((await on.get(cronId)).last_error).toBe('There is no graph "h". The graphs here: "g".')
  await crons.remove(on.db, cronId, all)
})

test('a round that fails before its commit leaves nothing behind, and the next one fires the same slot', async () => {
  await on.set(NOON)
  const fail = async () => {
    throw new ApiError('database_unavailable')
  }
  for (const thread_id of [null, await newThread()]) {
    await on.set('2026-05-05T12:00:30Z')
    const cronId = await on.cron({ schedule: '* * * * *', thread_id })
    await on.set('2026-05-05T12:01:00Z')
    await expect(fireDue(on.scheduler({ fail }))).rejects.toThrow('The database cannot be reached')
    expect(await on.db.rows(sql`select run_id from runs where metadata ->> 'cron_id' = ${cronId}`)).toEqual([])
    await on.fire()
    expect(await slotsOf(cronId)).toEqual(['2026-05-05T12:01Z'])
    await crons.remove(on.db, cronId, all)
  }
})

test('a cron that is changed after the clock was put back does not come to a slot it has had', async () => {
  await on.set('2999-01-01T11:59:00Z')
  const cronId = await on.cron({ schedule: '0 12 * * *' })
  await fireAt('2999-01-01T12:00:00Z')
  const { db, bus, registry } = on.scheduler()
  const patch = { schedule: '0 * * * *', payload: {} } as CronPatch
  const { next_run_date } = await changeCron({ db, bus, registry, webhooks: undefined }, cronId, patch, all)
  expect(next_run_date).toBe('2999-01-01T13:00:00+00:00')
  await crons.remove(on.db, cronId, all)
})

test('a cron on a thread whose run is over for good is disabled when the thread can no longer be seen', async () => {
  await on.set(NOON)
  const threadId = await newThread()
  const cronId = await on.cron({ schedule: '* * * * *', thread_id: threadId })
  await on.db.rows(sql`update threads set doomed_at = clock_timestamp() where thread_id = ${threadId}`)
  await fireAt('2026-05-05T12:01:00Z')
  expect((await on.get(cronId)).disabled_reason).toContain(`The thread ${threadId} does not exist`)
})

test('the runs of slots are forgotten a week after they were created', async () => {
  await on.set(NOON)
  const cronId = await on.cron({ schedule: '@hourly' })
  await fireAt('2026-05-05T13:00:00Z')
  expect(await crons.sweepRuns(on.db, 1_000)).toBe(0)
  await on.db.rows(
    sql`update cron_runs set created_at = clock_timestamp() - interval '8 days' where cron_id = ${cronId}`,
  )
  expect(await crons.sweepRuns(on.db, 1_000)).toBe(1)
  await on.set('2026-05-05T12:30:00Z')
  await on.fire()
  expect(await slotsOf(cronId)).toEqual([])
  await crons.remove(on.db, cronId, all)
})

test.each(zones)(
  'any schedule in %s under any clock fires the latest slot that has come since the last, once',
  async (timezone) => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.integer({ min: 0, max: 3 * 3_600_000 }) },
      { weight: 1, arbitrary: fc.integer({ min: -3 * 3_600_000, max: 20 * 3_600_000 }) },
    )
    const steps = fc.array(step, { minLength: 1, maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(fields, moments(timezone), steps, async (of, from, jumps) => {
        await on.set(new Date(from).toISOString())
        const cronId = await on.cron({ schedule: textOf(of), timezone }).catch(() => undefined)
        if (cronId === undefined) return
        const wanted: string[] = []
        let now = from
        let decided = from
        for (const jump of jumps) {
          now += jump
          await fireAt(new Date(now).toISOString())
          const latest = expected(of, timezone, decided, now).at(-1)
          if (latest === undefined) continue
          wanted.push(minute(new Date(latest).toISOString()))
          decided = now
        }
        expect(await slotsOf(cronId), textOf(of)).toEqual(wanted)
        await crons.remove(on.db, cronId, all)
      }),
      { numRuns: 25 },
    )
  },
  120_000,
)
