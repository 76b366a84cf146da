// A Postgres that is slow, half away, read-only, full of other people's work, or deaf to notifications.

import { v7 } from 'uuid'
import { expect, test, vi } from 'vitest'
import { named } from '../api/run-server.ts'
import { needed } from '../support/databases.ts'
import { until } from '../support/until.ts'
import { createStage, joinOn, newThread, observed, settlements, streamOn } from './rows/stage.ts'
import { startFaultyProxy } from './support/proxy.ts'

vi.setConfig({ testTimeout: 60_000 })

const stage = createStage()

/** A run that waits in `second` on a server whose way to Postgres can be broken, with a whole server beside it. */
async function onBrokenWay(redis?: { uri: string; prefix: string }) {
  const { made } = stage
  const proxy = await startFaultyProxy(stage.uri())
  stage.after(proxy.close)
  const shared = redis === undefined ? {} : { redis }
  const cutOff = await stage.heddle({ database: { uri: proxy.uri }, ...shared })
  // Whatever the test does, what waits for an answer must not hold the end up.
  stage.after(proxy.mend)
  const threadId = await newThread(cutOff)
  const gate = v7()
  const input = { log: ['in'], hold: { second: gate } }
  const run = await cutOff.client.runs.create(threadId, 'steps', { input, streamMode: 'updates' })
  await made.gates.reached(gate)
  const other = await stage.heddle(shared)
  await until('first is stored', async () => {
    const { values } = await other.client.threads.getState<{ log?: string[] }>(threadId)
    return values.log?.length === 2
  })
  return { made, proxy, cutOff, other, threadId, gate, run }
}

test('row 26: a worker whose way to Postgres is silent stops before its lease is over, and the run goes on elsewhere', async () => {
  const { made, proxy, cutOff, other, threadId, gate, run } = await onBrokenWay()
  const began = performance.now()
  proxy.set({ kind: 'blackhole' })
  await until('it knows that its lease is over', () => observed(cutOff, 'run_lease_lost', run.run_id))
  expect(performance.now() - began).toBeLessThan(2_000)
  await made.gates.reached(gate, 2)
  made.gates.open(gate)
  expect(await other.client.runs.join(threadId, run.run_id)).toMatchObject({ log: ['in', 'first', 'second', 'third'] })
  expect(made.ran.map(({ node, attempt }) => `${node} ${attempt}`)).toEqual([
    'first 1',
    'second 1',
    'second 2',
    'third 2',
  ])
  expect([settlements([cutOff], run.run_id), settlements([other], run.run_id)]).toEqual([[], ['success']])
  proxy.mend()
  const next = await until('it serves again', () =>
    cutOff.client.runs.wait(threadId, 'steps', { input: { hold: null } }).catch(() => undefined),
  )
  expect(next).toMatchObject({ hold: null })
})

test('row 27: what a worker does that reaches Redis but not Postgres, nobody is told', async () => {
  const redis = { uri: needed('TEST_REDIS_URI'), prefix: `row-27-${v7()}:` }
  const { made, proxy, cutOff, other, threadId, gate, run } = await onBrokenWay(redis)
  const stream = await joinOn(other, run, '-1')
  proxy.set({ kind: 'blackhole' })
  // It goes on while it still may: its work is done, and cannot be stored.
  made.gates.open(gate)
  await until('it has done the last node', () =>
    made.ran.some(({ node, attempt }) => node === 'third' && attempt === 1),
  )
  expect(named(await stream.rest())).toEqual([
    ['metadata', { run_id: run.run_id, attempt: 1 }],
    ['updates', { first: { log: ['first'] } }],
    ['metadata', { run_id: run.run_id, attempt: 2 }],
    ['updates', { second: { log: ['second'] } }],
    ['updates', { third: { log: ['third'] } }],
    ['end', null],
  ])
  expect(await other.client.runs.join(threadId, run.run_id)).toMatchObject({ log: ['in', 'first', 'second', 'third'] })
  expect([settlements([cutOff], run.run_id), settlements([other], run.run_id)]).toEqual([[], ['success']])
})

test('row 29: requests that wait for a connection are answered in time, and cost no run its lease', async () => {
  const { made } = stage
  const server = await stage.heddle({ config: { poolSize: 3 } })
  const [runThread, lockedThread] = [await newThread(server), await newThread(server)]
  const gate = v7()
  const input = { log: ['in'], hold: { second: gate } }
  const run = await server.client.runs.create(runThread, 'steps', { input })
  await made.gates.reached(gate)
  const blocker = await stage.connect()
  await blocker.query('begin')
  await blocker.query('select 1 from threads where thread_id = $1 for update', [lockedThread])
  const began = performance.now()
  const asked = Array.from({ length: 50 }, () =>
    server.request('POST', `/threads/${lockedThread}/runs`, { assistant_id: 'steps', input: {} }),
  )
  const answers = Promise.all(asked.slice(1))
  expect(new Set((await answers).map(({ status }) => status))).toEqual(new Set([503]))
  expect((await answers).map(({ headers }) => headers.get('retry-after'))).toEqual(Array(49).fill('2'))
  expect(performance.now() - began).toBeLessThan(9_000)
  // Longer than the lease; what runs has a way of its own.
  expect(performance.now() - began).toBeGreaterThan(4_000)
  made.gates.open(gate)
  await until('the run has ended', () => settlements([server], run.run_id).length > 0)
  await blocker.query('commit')
  expect((await asked[0])?.status).toBe(200)
  expect(await server.client.runs.join(runThread, run.run_id)).toMatchObject({
    log: ['in', 'first', 'second', 'third'],
  })
  expect(server.seen.filter(({ kind }) => kind === 'run_lease_lost')).toEqual([])
  expect(made.ran.filter(({ run_id }) => run_id === run.run_id).map(({ attempt }) => attempt)).toEqual([1, 1, 1])
})

test('row 30: while the database takes no writes it is said so, reading goes on, and afterwards all goes on by itself', async () => {
  const { made } = stage
  const server = await stage.heddle()
  const threadId = await newThread(server)
  const gate = v7()
  const input = { log: ['in'], hold: { second: gate } }
  const run = await server.client.runs.create(threadId, 'steps', { input })
  await made.gates.reached(gate)
  const readOnly = async (on: boolean) => {
    const [{ name } = { name: '' }] = await stage.query<{ name: string }>('select current_database() as name')
    const admin = await stage.connect()
    await admin.query('set default_transaction_read_only = off')
    await admin.query(`alter database ${name} set default_transaction_read_only = ${on ? 'on' : 'off'}`)
    // New sessions are as the database says now.
    await admin.query(`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`)
  }
  await readOnly(true)
  const refused = await until('writing is refused', async () => {
    const answer = await server.request('POST', '/threads', {})
    const text = await answer.text()
    return text.includes('takes no writes') && { status: answer.status, retry: answer.headers.get('retry-after') }
  })
  expect(refused).toEqual({ status: 503, retry: expect.stringMatching(/^\d+$/) })
  expect((await server.client.threads.get(threadId)).status).toBe('busy')
  await until('the lease cannot be renewed', () => observed(server, 'run_lease_lost', run.run_id))
  await readOnly(false)
  made.gates.open(gate)
  const values = await until('it goes on', () =>
    server.client.runs.join(threadId, run.run_id).catch((error: { status?: number }) => {
      if (error.status !== 503) throw error
      return undefined
    }),
  )
  expect(values).toMatchObject({ log: ['in', 'first', 'second', 'third'] })
  expect(await newThread(server)).toEqual(expect.any(String))
})

test('row 33: while no notification can be heard, runs begin within the time of a poll, and streams are whole', async () => {
  const api = await stage.heddle({ role: 'api' })
  const worker = await stage.heddle({ role: 'worker' })
  const killer = await stage.connect()
  let deaf = true
  let ended = 0
  const deafen = (async () => {
    while (deaf) {
      const { rowCount } = await killer.query(`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'heddle notify'`)
      ended += rowCount ?? 0
    }
  })()
  try {
    await until('both are deaf', () =>
      [api, worker].every(({ seen }) => seen.some(({ kind }) => kind === 'bus_failed')),
    )
    for (let i = 0; i < 3; i++) {
      const events = await (await streamOn(api, await newThread(api), { log: ['in'] })).rest()
      expect(named(events).map(([name]) => name)).toEqual(['metadata', 'updates', 'updates', 'updates', 'end'])
    }
  } finally {
    deaf = false
    await deafen
  }
  expect(ended).toBeGreaterThan(2)
  const waited = worker.seen.flatMap((one) => (one.kind === 'run_claimed' ? [one.waited_ms] : []))
  expect(waited).toHaveLength(3)
  expect(Math.max(...waited)).toBeLessThan(1_900)
})
