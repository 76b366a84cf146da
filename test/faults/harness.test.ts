// The harness itself: what it says it does to servers, networks and processes is done.

import { connect, createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { until } from '../support/until.ts'
import { type Cluster, startCluster } from './support/cluster.ts'
import { type FaultyProxy, startFaultyProxy } from './support/proxy.ts'

vi.setConfig({ testTimeout: 20_000, hookTimeout: 60_000 })

describe('a proxy', () => {
  let heard = ''
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (data) => {
      heard += data
      socket.write(`you said ${data}`)
    })
  })
  let proxy: FaultyProxy
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    proxy = await startFaultyProxy(`tcp://127.0.0.1:${(server.address() as { port: number }).port}`)
  })
  afterAll(async () => {
    await proxy.close()
    server.close()
  })
  const open = async () => {
    const socket = connect(Number(new URL(proxy.uri).port), '127.0.0.1')
    const seen = { text: '', ended: '' }
    socket.on('data', (data) => {
      seen.text += data
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      seen.ended = error.code ?? 'error'
    })
    socket.on('close', () => {
      seen.ended ||= 'closed'
    })
    await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve))
    return { socket, seen }
  }
  const roundTrip = async () => {
    const began = performance.now()
    const { socket, seen } = await open()
    socket.write('hello')
    await until('the answer comes', () => seen.text === 'you said hello')
    socket.destroy()
    return performance.now() - began
  }

  test('passes, and delays both ways', async () => {
    expect(await roundTrip()).toBeLessThan(500)
    proxy.set({ kind: 'delay', ms: 300 })
    expect(await roundTrip()).toBeGreaterThanOrEqual(595)
    proxy.mend()
    expect(await roundTrip()).toBeLessThan(500)
  })

  test('keeps the order of what it delayed and what came after', async () => {
    const { socket, seen } = await open()
    proxy.set({ kind: 'delay', ms: 200 })
    socket.write('a')
    await new Promise(setImmediate)
    proxy.mend()
    socket.write('b')
    await until('both are answered', () => seen.text.includes('b'))
    expect(seen.text.replaceAll('you said ', '')).toBe('ab')
    socket.destroy()
  })

  test('resets connections and refuses new ones', async () => {
    const { seen } = await open()
    proxy.set({ kind: 'reset' })
    await until('it is reset', () => seen.ended !== '')
    expect(seen.ended).toBe('ECONNRESET')
    const { seen: next } = await open()
    await until('the next one is reset', () => next.ended !== '')
    proxy.mend()
    await roundTrip()
  })

  test('swallows answers, and lets the server hear', async () => {
    const { socket, seen } = await open()
    heard = ''
    proxy.set({ kind: 'swallow' })
    socket.write('commit')
    await until('the server hears', () => heard === 'commit')
    proxy.mend()
    await until('the connection that lost something is reset', () => seen.ended !== '')
    expect(seen.text).toBe('')
    await roundTrip()
  })

  test('is a black hole to both', async () => {
    const { socket, seen } = await open()
    heard = ''
    proxy.set({ kind: 'blackhole' })
    socket.write('lost')
    const { seen: fresh } = await open()
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect({ heard, seen, fresh }).toEqual({ heard: '', seen: { text: '', ended: '' }, fresh: { text: '', ended: '' } })
    proxy.mend()
    await until('the connection that lost something is reset', () => seen.ended !== '')
    await roundTrip()
  })

  test('cuts in the middle of an answer', async () => {
    const { socket, seen } = await open()
    proxy.set({ kind: 'cut', bytes: 7 })
    socket.write('hello')
    await until('it is cut', () => seen.ended !== '')
    expect(seen.text).toBe('you sai')
    proxy.mend()
    await roundTrip()
  })
})

describe('a cluster', () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await startCluster({ env: { HEDDLE_LEASE_SECONDS: '3' } })
  })
  afterAll(() => cluster.close())
  const api = async (name: string, path: string, body: object, headers: Record<string, string> = {}) =>
    fetch(`${cluster.member(name).url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    })

  test('runs graphs in its workers, and the ledger says what they did', async () => {
    const input = { done: [], tag: 'x', ms: 1 }
    const values = await (await api('api1', '/runs/wait', { assistant_id: 'steps', input })).json()
    expect(values).toMatchObject({ done: ['x:one', 'x:two', 'x:three', 'x:four'] })
    const entries = cluster.ledger.read()
    expect(entries.map(({ node, event }) => `${node} ${event}`)).toEqual(
      ['one', 'two', 'three', 'four'].flatMap((node) => [`${node} began`, `${node} ended`]),
    )
    const worker = cluster.workers.find((member) => member.pid() === entries[0]?.ppid)
    expect(worker?.executors()).toContain(entries[0]?.pid)
    expect(new Set(entries.map(({ attempt }) => attempt))).toEqual(new Set([1]))
  })

  test('its Postgres and Redis crash and come back with what they had', async () => {
    await cluster.query('create table kept (n int)')
    await cluster.query('insert into kept values (7)')
    await cluster.postgres.crash()
    const asked = cluster.query('select n from kept')
    await cluster.postgres.restart()
    expect(await asked).toEqual([{ n: 7 }])
    await cluster.redis?.crash()
    await cluster.redis?.restart()
  })

  test('a process with a failpoint dies there, and starts again in its place without it', async () => {
    const worker = cluster.member('worker1')
    await cluster.member('worker2').stop()
    await worker.stop()
    await worker.start({ HEDDLE_FAILPOINTS: 'after_claim=kill9' })
    const made = await api('api2', '/runs', { assistant_id: 'steps', input: { done: [], tag: 'y' } })
    const { thread_id, run_id } = (await made.json()) as Record<string, string>
    expect(await worker.gone()).toBeNull()
    expect(worker.output()).toContain('failpoints are set')
    await worker.start()
    const values = await (await fetch(`${cluster.member('api2').url}/threads/${thread_id}/runs/${run_id}/join`)).json()
    expect(values).toMatchObject({ done: ['y:one', 'y:two', 'y:three', 'y:four'] })
    expect(cluster.ledger.read().filter(({ tag, attempt }) => tag === 'y' && attempt === 2)).toHaveLength(8)
  })
})
