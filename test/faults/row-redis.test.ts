// A Redis that restarts, forgets, is away, loses messages, is slow or full: it carries hints, so all of that costs time and
// nothing else.

import { createClient } from 'redis'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type Server, startRedis } from '../../scripts/servers.mjs'
import { named } from '../api/run-server.ts'
import { readEvents } from '../support/events.ts'
import type { TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'
import { startLossyWay } from './rows/lossy.ts'
import { createTroupe, NODES, type Troupe } from './rows/members.ts'
import { createDice, createStage, newThread, observed } from './rows/stage.ts'
import { startFaultyProxy } from './support/proxy.ts'

vi.setConfig({ testTimeout: 60_000 })

const stage = createStage()
let redis: Server
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.stop())

/** Speaks to the Redis itself. */
async function say(...command: string[]): Promise<unknown> {
  const client = createClient({ url: redis.uri })
  client.on('error', () => {})
  await client.connect()
  try {
    return await client.sendCommand(command)
  } finally {
    client.destroy()
  }
}

async function apiAndWorker(troupe: Troupe, uri = redis.uri): Promise<{ api: TestServer; worker: TestServer }> {
  const options = { redis: { uri } }
  return { api: await troupe.here('api', options), worker: await troupe.here('worker', options) }
}

/** Starts a run and reads its events. */
async function stream(server: TestServer, input: object) {
  const path = `/threads/${await newThread(server)}/runs/stream`
  return readEvents(await server.request('POST', path, { assistant_id: 'steps', input, stream_mode: 'custom' }))
}
const numbers = (events: readonly { event: string; data: { n: number } }[]) =>
  events.flatMap(({ event, data }) => (event === 'custom' ? [data.n] : []))
const upTo = (count: number) => Array.from({ length: count }, (_, n) => n)

test('row 34: a stream over ten restarts of Redis has every event once, in order', async () => {
  const troupe = createTroupe(stage)
  const { api } = await apiAndWorker(troupe)
  const events = (await stream(api, troupe.input({ two: 'gate' }, { events: 1_500 }))).rest()
  for (let restart = 0; restart < 10; restart++) {
    await redis.crash()
    await redis.restart()
  }
  troupe.open('gate')
  const seen = await events
  expect(numbers(seen)).toEqual(upTo(1_500))
  const ids = seen.slice(0, -1).map(({ id }) => Number(id))
  expect(ids).toEqual([...new Set(ids)].toSorted((a, b) => a - b))
  expect(api.seen.some(({ kind }) => kind === 'bus_failed')).toBe(true)
})

test('row 35: nothing is kept in Redis, so that a FLUSHALL loses nothing', async () => {
  const troupe = createTroupe(stage)
  const { api } = await apiAndWorker(troupe)
  const threadId = await newThread(api)
  const run = await api.client.runs.create(threadId, 'steps', { input: troupe.input({ two: 'gate' }) })
  const waiting = await api.client.runs.create(threadId, 'steps', { input: troupe.input() })
  await troupe.began(run.run_id, 'two')
  expect(await say('DBSIZE')).toBe(0)
  await say('FLUSHALL')
  await api.client.runs.cancel(threadId, run.run_id, true)
  expect((await api.client.runs.get(threadId, run.run_id)).status).toBe('interrupted')
  expect(await api.client.runs.join(threadId, waiting.run_id)).toMatchObject({ done: ['one', ...NODES] })
})

test('row 36: while Redis is away, runs are made, run, told of and cancelled, at the pace of polls', async () => {
  const troupe = createTroupe(stage)
  const { api, worker } = await apiAndWorker(troupe)
  await redis.crash()
  try {
    await until('both know', () => [api, worker].every(({ seen }) => seen.some(({ kind }) => kind === 'bus_failed')))
    expect((await api.request('GET', '/ok')).status).toBe(200)
    const events = await (await stream(api, troupe.input({}, { events: 100 }))).rest()
    expect(numbers(events)).toEqual(upTo(100))
    const threadId = await newThread(api)
    const run = await api.client.runs.create(threadId, 'steps', { input: troupe.input({ two: 'never' }) })
    await troupe.began(run.run_id, 'two')
    const asked = performance.now()
    await api.client.runs.cancel(threadId, run.run_id, true)
    expect(performance.now() - asked).toBeLessThan(4_000)
    expect((await api.client.runs.get(threadId, run.run_id)).status).toBe('interrupted')
    expect(await api.client.runs.wait(threadId, 'steps', { input: troupe.input() })).toMatchObject({
      done: ['one', ...NODES],
    })
  } finally {
    await redis.restart()
  }
  await until('they are together again', () =>
    [api, worker].every(({ seen }) => seen.some(({ kind }) => kind === 'bus_restored')),
  )
})

test('row 37: when three messages in ten are lost, streams are whole and ends are heard', async () => {
  const troupe = createTroupe(stage)
  const dice = createDice(37)
  const way = await startLossyWay(redis.uri, () => dice.below(10) < 3)
  stage.after(way.close)
  const { api } = await apiAndWorker(troupe, way.uri)
  const read = async () => named(await (await stream(api, troupe.input({}, { events: 200 }))).rest())
  for (const events of await Promise.all(Array.from({ length: 8 }, read))) {
    expect(events.map(([name, data]) => (name === 'custom' ? (data as { n: number }).n : name))).toEqual([
      'metadata',
      ...upTo(200),
      'end',
    ])
  }
  expect(way.counts.dropped).toBeGreaterThan(20)
  expect(way.counts.passed).toBeGreaterThan(way.counts.dropped)
})

test('row 38: a Redis that takes half a second for everything makes no run slower where its worker is', async () => {
  const troupe = createTroupe(stage)
  const proxy = await startFaultyProxy(redis.uri)
  stage.after(proxy.close)
  const server = await troupe.here('all', { redis: { uri: proxy.uri } })
  const times = async () => {
    const taken: number[] = []
    for (let i = 0; i < 7; i++) {
      const began = performance.now()
      if (i % 2) await server.client.runs.wait(await newThread(server), 'steps', { input: troupe.input() })
      else await (await stream(server, troupe.input())).rest()
      taken.push(performance.now() - began)
    }
    return taken.toSorted((a, b) => a - b)
  }
  await times()
  proxy.set({ kind: 'delay', ms: 500 })
  const slow = await times()
  // Half a second there and half a second back is what any wait for Redis would take.
  expect(slow.at(-1)).toBeLessThan(950)
  const [run] = await stage.query<{ run_id: string }>('select run_id from runs limit 1')
  expect(observed(server, 'run_settled', String(run?.run_id))).toBe(true)
})

test('row 39: a Redis that is full and cuts off slow subscribers loses no event', async () => {
  const troupe = createTroupe(stage)
  const { api } = await apiAndWorker(troupe)
  await say('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 16kb 8kb 1')
  for (let i = 0; (await say('SET', `filler ${i}`, 'x'.repeat(100_000)).catch(() => 'full')) === 'OK'; i++) {
    if (i === 10) await say('CONFIG', 'SET', 'maxmemory', '2mb')
  }
  await expect(say('SET', 'one more', 'x'.repeat(100_000))).rejects.toThrow('OOM')
  const many = await Promise.all(Array.from({ length: 5 }, () => stream(api, troupe.input({}, { events: 300 }))))
  for (const events of many) expect(numbers(await events.rest())).toEqual(upTo(300))
})
