// Processes that are killed, stopped, frozen or told wrong times: what was accepted goes on elsewhere from what was
// committed, ends once, and whoever follows it gets every event once.

import { v7 } from 'uuid'
import { expect, test, vi } from 'vitest'
import { readEvents, type SeenEvent } from '../support/events.ts'
import { until } from '../support/until.ts'
import { createTroupe, LEASE_SECONDS, NODES, type Noted } from './rows/members.ts'
import { createDice, createStage, joinOn, newThread } from './rows/stage.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000 })

const stage = createStage()

const post = (url: string, path: string, body: object, headers: Record<string, string> = {}) =>
  fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
const rowOf = async (runId: string) =>
  (
    await stage.query<{ status: string; attempt: number }>('select status, attempt from runs where run_id = $1', [
      runId,
    ])
  )[0]
const said = (notes: readonly Noted[]) => notes.map(({ node, attempt }) => `${node} ${attempt}`)

test('row 1: when the server that streams is killed, another one gives the exact rest', async () => {
  const troupe = createTroupe(stage)
  const here = await troupe.here('all')
  const killed = await troupe.member('api')
  const threadId = await newThread(here)
  const body = { assistant_id: 'steps', input: troupe.input({}, { events: 500 }), stream_mode: 'custom' }
  const stream = readEvents(await post(killed.url, `/threads/${threadId}/runs/stream`, body))
  const before: SeenEvent[] = []
  await expect(async () => {
    for (let event = await stream.next(); event !== undefined; event = await stream.next()) {
      before.push(event)
      if (before.length === 60) killed.signal('SIGKILL')
    }
  }).rejects.toThrow()
  const last = before.at(-1)?.id as string
  const [run] = await here.client.runs.list(threadId)
  const ids = { thread_id: threadId, run_id: run?.run_id as string }
  const after = await (await joinOn(here, ids, last)).rest()
  expect(after.length).toBeGreaterThan(1)
  const numbers = [...before, ...after].flatMap(({ event, data }) => (event === 'custom' ? [data.n] : []))
  expect(numbers).toEqual(Array.from({ length: 500 }, (_, n) => n))
  expect([...before, ...after]).toEqual(await (await joinOn(here, ids, '-1')).rest())
  expect(await rowOf(ids.run_id)).toEqual({ status: 'success', attempt: 1 })
})

test('row 2: a request whose server is killed before it answered is made again with its key, and there is one run', async () => {
  const troupe = createTroupe(stage)
  const here = await troupe.here('all')
  const killed = await troupe.member('api', { HEDDLE_FAILPOINTS: 'after_insert_before_reply=kill9' })
  const threadId = await newThread(here)
  const body = { assistant_id: 'steps', input: troupe.input() }
  const key = { 'idempotency-key': v7() }
  await expect(post(killed.url, `/threads/${threadId}/runs`, body, key)).rejects.toThrow()
  await killed.gone()
  const rows = await stage.query<{ run_id: string }>('select run_id from runs')
  expect(rows).toHaveLength(1)
  const again = await here.request('POST', `/threads/${threadId}/runs`, body, key)
  expect([again.status, await again.json()]).toMatchObject([200, { run_id: rows[0]?.run_id }])
  expect(await here.client.runs.join(threadId, String(rows[0]?.run_id))).toMatchObject({ done: NODES })
  expect(await stage.query('select status, count(*)::int from runs group by 1')).toEqual([
    { status: 'success', count: 1 },
  ])
})

test('row 3: a worker killed in a node is followed by one that goes on from the last checkpoint', async () => {
  const troupe = createTroupe(stage)
  const api = await troupe.here('api')
  const killed = await troupe.member('worker')
  const threadId = await newThread(api)
  const input = troupe.input({ four: 'gate' })
  const run = await api.client.runs.create(threadId, 'steps', { input })
  await troupe.began(run.run_id, 'four')
  await until('three nodes are stored', async () => (await api.client.threads.getState(threadId)).next[0] === 'four')
  await troupe.here('worker')
  killed.signal('SIGKILL')
  const died = performance.now()
  await troupe.began(run.run_id, 'four', 2)
  // The lease, the time between two looks of a rescuer (a quarter of it), and something for a busy machine.
  expect(performance.now() - died).toBeLessThan(LEASE_SECONDS * 1_250 + 2_000)
  troupe.open('gate')
  expect(await api.client.runs.join(threadId, run.run_id)).toMatchObject({ done: NODES })
  expect(said(troupe.ledger(run.run_id))).toEqual(['one 1', 'two 1', 'three 1', 'four 1', 'four 2', 'five 2', 'six 2'])
  expect(await rowOf(run.run_id)).toEqual({ status: 'success', attempt: 2 })
})

test('row 4: a worker killed between the last checkpoint and the end leaves a run that is ended without running anything again', async () => {
  const troupe = createTroupe(stage)
  const api = await troupe.here('api')
  const killed = await troupe.member('worker', { HEDDLE_FAILPOINTS: 'before_finalize=kill9' })
  const threadId = await newThread(api)
  const run = await api.client.runs.create(threadId, 'steps', { input: troupe.input() })
  await killed.gone()
  expect(await rowOf(run.run_id)).toEqual({ status: 'running', attempt: 1 })
  await troupe.here('worker')
  expect(await api.client.runs.join(threadId, run.run_id)).toMatchObject({ done: NODES })
  expect(said(troupe.ledger(run.run_id))).toEqual(NODES.map((node) => `${node} 1`))
  expect(await rowOf(run.run_id)).toEqual({ status: 'success', attempt: 2 })
})

test('row 5: a worker killed before it could say that a run has ended is not needed to say so', async () => {
  const troupe = createTroupe(stage)
  const api = await troupe.here('api')
  const killed = await troupe.member('worker', { HEDDLE_FAILPOINTS: 'after_finalize_before_ack=kill9' })
  const threadId = await newThread(api)
  const run = await api.client.runs.create(threadId, 'steps', { input: troupe.input({ one: 'gate' }) })
  const joined = api.client.runs.join(threadId, run.run_id)
  const stream = (await joinOn(api, run, '-1')).rest()
  await troupe.began(run.run_id, 'one')
  troupe.open('gate')
  await killed.gone()
  const died = performance.now()
  expect(await joined).toMatchObject({ done: NODES })
  expect((await stream).map(({ event }) => event).at(-1)).toBe('end')
  expect(performance.now() - died).toBeLessThan(2_000)
  expect(await rowOf(run.run_id)).toEqual({ status: 'success', attempt: 1 })
})

test('row 6: a worker killed right after it claimed a run has a lease that ends', async () => {
  const troupe = createTroupe(stage)
  const api = await troupe.here('api')
  const killed = await troupe.member('worker', { HEDDLE_FAILPOINTS: 'after_claim=kill9' })
  const threadId = await newThread(api)
  const run = await api.client.runs.create(threadId, 'steps', { input: troupe.input() })
  await killed.gone()
  const died = performance.now()
  expect(await rowOf(run.run_id)).toEqual({ status: 'running', attempt: 1 })
  await troupe.here('worker')
  await troupe.began(run.run_id, 'one', 2)
  expect(performance.now() - died).toBeLessThan(LEASE_SECONDS * 1_250 + 2_000)
  expect(await api.client.runs.join(threadId, run.run_id)).toMatchObject({ done: NODES })
  expect(said(troupe.ledger(run.run_id))).toEqual(NODES.map((node) => `${node} 2`))
})

test('row 7: a worker that is told to end claims no more, lets runs end, gives the rest back uncharged, and another goes on', async () => {
  const troupe = createTroupe(stage)
  const api = await troupe.here('api')
  const ending = await troupe.member('worker')
  const threads = [await newThread(api), await newThread(api), await newThread(api)] as const
  const create = (threadId: string, gate: string) =>
    api.client.runs.create(threadId, 'steps', { input: troupe.input({ two: gate }) })
  const [long, short] = [await create(threads[0], 'long'), await create(threads[1], 'short')]
  await troupe.began(long.run_id, 'two')
  await troupe.began(short.run_id, 'two')
  const told = performance.now()
  ending.signal('SIGTERM')
  await until('it closes', () => ending.output().includes('"kind":"server_closing"'))
  const late = await create(threads[2], 'short')
  troupe.open('short')
  await api.client.runs.join(threads[1], short.run_id)
  const other = await troupe.here('worker')
  await troupe.began(late.run_id, 'two')
  const claimedAt = await until(
    'the rest is taken over',
    () => other.seen.some((one) => one.kind === 'run_claimed' && one.run_id === long.run_id) && performance.now(),
  )
  expect(await ending.gone()).toBe(0)
  // A second of grace, and at most one more until another has it.
  expect(claimedAt - told).toBeLessThan(2_500)
  troupe.open('long')
  for (const [i, run] of [long, short, late].entries()) {
    expect(await api.client.runs.join(String(threads[i]), run.run_id)).toMatchObject({ done: NODES })
    expect(await rowOf(run.run_id)).toEqual({ status: 'success', attempt: 1 })
  }
  expect(said(troupe.ledger(long.run_id))).toEqual(['one 1', 'two 1', 'two 1', 'three 1', 'four 1', 'five 1', 'six 1'])
  expect(new Set(troupe.ledger(late.run_id).map(({ ppid }) => ppid))).toEqual(new Set([process.ppid]))
  expect(said(troupe.ledger(short.run_id))).toEqual(NODES.map((node) => `${node} 1`))
})

test('row 8: told twice, or while it starts, a process ends soon, gives its runs back, and none is lost', async () => {
  const troupe = createTroupe(stage)
  const api = await troupe.here('api')
  const threadId = await newThread(api)
  const run = await api.client.runs.create(threadId, 'steps', { input: troupe.input({ two: 'gate' }) })
  const impatient = await troupe.member('worker', { BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: '60' })
  await troupe.began(run.run_id, 'two')
  impatient.signal('SIGTERM')
  await until('it closes', () => impatient.output().includes('"kind":"server_closing"'))
  const told = performance.now()
  impatient.signal('SIGTERM')
  expect(await impatient.gone()).toBe(143)
  expect(performance.now() - told).toBeLessThan(3_000)
  expect(await rowOf(run.run_id)).toEqual({ status: 'pending', attempt: 0 })
  const dice = createDice(8)
  for (let round = 0; round < 5; round++) {
    // On a fast machine one of them has the run by then, which waits for its gate.
    const ended = impatient.start({ BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: '1' }).catch((error: Error) => error.message)
    await until('it is there', () => impatient.pid())
    // The moment is the fault: anywhere in the start.
    await new Promise((resolve) => setTimeout(resolve, 100 + dice.below(900)))
    impatient.signal(dice.yes() ? 'SIGTERM' : 'SIGINT')
    await impatient.gone()
    expect(String(await ended)).toMatch(/ended: |^undefined$/)
  }
  await troupe.here('worker')
  troupe.open('gate')
  expect(await api.client.runs.join(threadId, run.run_id)).toMatchObject({ done: NODES })
  expect(await rowOf(run.run_id)).toMatchObject({ status: 'success' })
})

test('row 9: a worker that was frozen longer than its lease writes nothing when it wakes, and works on under a new name', async () => {
  const troupe = createTroupe(stage)
  const api = await troupe.here('api')
  const frozen = await troupe.member('worker')
  const threadId = await newThread(api)
  const run = await api.client.runs.create(threadId, 'steps', { input: troupe.input({ four: 'gate' }) })
  await troupe.began(run.run_id, 'four')
  await until('three nodes are stored', async () => (await api.client.threads.getState(threadId)).next[0] === 'four')
  const [name] = await stage.query('select worker_id from workers')
  // Its executor goes on, so that much waits to be written when it wakes.
  frozen.signal('SIGSTOP')
  const other = await troupe.here('worker')
  await troupe.began(run.run_id, 'four', 2)
  troupe.open('gate')
  expect(await api.client.runs.join(threadId, run.run_id)).toMatchObject({ done: NODES })
  await troupe.began(run.run_id, 'four', 1)
  const everything = `select (select json_agg(r order by run_id) from runs r)::text as runs,
    (select json_agg(e order by first_seq) from events e)::text as events,
    (select json_agg(c order by checkpoint_id) from checkpoints c)::text as checkpoints,
    (select count(*) from checkpoint_writes) as writes, (select json_agg(t) from threads t)::text as threads`
  const before = await stage.query(everything)
  frozen.signal('SIGCONT')
  await until('it knows', () => frozen.output().includes('"kind":"run_lease_lost"'))
  expect(await stage.query(everything)).toEqual(before)
  expect(frozen.output()).not.toContain('"kind":"run_settled"')
  await other.close()
  const next = await api.client.runs.create(threadId, 'steps', { input: troupe.input({ two: 'second gate' }) })
  expect((await troupe.began(next.run_id, 'two')).ppid).toBe(frozen.pid())
  const [holder] = await stage.query('select worker_id from runs where run_id = $1', [next.run_id])
  expect(holder).not.toEqual(name)
  troupe.open('second gate')
  expect(await api.client.runs.join(threadId, next.run_id)).toMatchObject({ done: [...NODES, ...NODES] })
})

test('row 20: a rescuer that is killed half-way has changed nothing, and the next one does it, once', async () => {
  const troupe = createTroupe(stage)
  const api = await troupe.here('api')
  const threadId = await newThread(api)
  const run = await api.client.runs.create(threadId, 'steps', { input: troupe.input() })
  await stage.query(
    `with t as (update threads set held_by = $1, epoch = epoch + 1 where thread_id = $2)
     update runs set status = 'running', attempt = 1, worker_id = gen_random_uuid() where run_id = $1`,
    [run.run_id, threadId],
  )
  const env = { HEDDLE_FAILPOINTS: 'in_reaper_between_select_update=kill9' }
  const started = troupe.member('worker', env).catch((error: Error) => error.message)
  const killed = await started
  if (typeof killed !== 'string') await killed.gone()
  expect(await rowOf(run.run_id)).toEqual({ status: 'running', attempt: 1 })
  await troupe.here('worker')
  expect(await api.client.runs.join(threadId, run.run_id)).toMatchObject({ done: NODES })
  expect(await rowOf(run.run_id)).toEqual({ status: 'success', attempt: 2 })
})

test('row 32: workers whose clocks are ten minutes off neither lose their runs nor take those of others before time', async () => {
  const troupe = createTroupe(stage)
  const api = await troupe.here('api')
  const skewed = (ms: number) => {
    const file = new URL('rows/skew.mjs', import.meta.url).href
    return troupe.member('worker', { NODE_OPTIONS: `--import=${file}`, SKEW_MS: `${ms}`, N_JOBS_PER_WORKER: '3' })
  }
  const workers = await Promise.all([skewed(600_000), skewed(-600_000)])
  const threads = await Promise.all(Array.from({ length: 6 }, () => newThread(api)))
  const runs = await Promise.all(
    threads.map((threadId) => api.client.runs.create(threadId, 'steps', { input: troupe.input({ two: 'gate' }) })),
  )
  const notes = await Promise.all(runs.map(({ run_id }) => troupe.began(run_id, 'two')))
  expect(new Set(notes.map(({ ppid }) => ppid))).toEqual(new Set(workers.map((worker) => worker.pid())))
  const times = workers.map((worker) => Date.parse(/"time":"([^"]+)"/.exec(worker.output())?.[1] ?? ''))
  const leases = async () =>
    (await stage.query<{ until: number }>('select extract(epoch from lease_until)::float8 as until from workers')).map(
      ({ until }) => until,
    )
  const began = await leases()
  await until('both have renewed for longer than a lease', async () =>
    (await leases()).every((until) => until > Math.max(...began) + LEASE_SECONDS),
  )
  expect(new Set(said(runs.flatMap(({ run_id }) => troupe.ledger(run_id))))).toEqual(new Set(['one 1', 'two 1']))
  expect(Math.abs((times[0] ?? 0) - (times[1] ?? 0))).toBeGreaterThan(1_000_000)
  const [fast] = workers
  const orphans = runs.filter((_, i) => notes[i]?.ppid === fast.pid())
  fast.signal('SIGKILL')
  const died = performance.now()
  troupe.open('gate')
  for (const { run_id } of orphans) await troupe.began(run_id, 'two', 2)
  expect(performance.now() - died).toBeLessThan(LEASE_SECONDS * 1_250 + 2_000)
  for (const [i, run] of runs.entries()) {
    expect(await api.client.runs.join(String(threads[i]), run.run_id)).toMatchObject({ done: NODES })
    expect(await rowOf(run.run_id)).toEqual({ status: 'success', attempt: orphans.includes(run) ? 2 : 1 })
  }
})
