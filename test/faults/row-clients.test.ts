// Clients that come, leave, come back all at once, ask a hundred times for the same, or send what is meant to hurt.

import { once } from 'node:events'
import { connect } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Annotation, StateGraph } from '@langchain/langgraph'
import { createClient } from 'redis'
import { v7 } from 'uuid'
import { expect, test, vi } from 'vitest'
import { needed } from '../support/databases.ts'
import type { TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'
import { createFaultyDriver } from './rows/driver.ts'
import { createTroupe, NODES } from './rows/members.ts'
import { createStage, joinOn, newThread } from './rows/stage.ts'

vi.setConfig({ testTimeout: 60_000 })

const stage = createStage()
const driver = createFaultyDriver()

test('row 16: state that is 20,000 levels deep fails its run with a sentence, and no other', async () => {
  const nest = (depth: number) => Array.from({ length: depth }).reduce<unknown>((inner) => [inner], 1)
  const deep = new StateGraph(Annotation.Root({ depth: Annotation<number>(), value: Annotation<unknown>() }))
    .addNode('dig', ({ depth }) => ({ value: nest(depth) }))
    .addEdge('__start__', 'dig')
    .compile()
  const server = await stage.heddle({ graphs: { deep } })
  const dig = (depth: number) => server.client.runs.wait(null, 'deep', { input: { depth } })
  const [failed, well] = await Promise.all([dig(20_000).catch((error: Error) => error.message), dig(50)])
  expect(failed).toMatch(/channel "value" .* cannot be stored: it is nested too deeply/)
  expect(well).toEqual({ depth: 50, value: nest(50) })
})

test('row 40: a thousand clients that follow and drop leave no connection, no subscription and no memory behind', async () => {
  const redis = { uri: needed('TEST_REDIS_URI'), prefix: `row-40-${v7()}:` }
  const server = await stage.heddle({ redis })
  const { port } = await server.heddle.listen()
  const watcher = createClient({ url: redis.uri })
  await watcher.connect()
  stage.after(() => watcher.destroy())
  const channels = async () => (await watcher.pubSubChannels(`${redis.prefix}*`)).toSorted()
  const sockets = () => process.getActiveResourcesInfo().filter((kind) => kind === 'TCPSocketWrap').length
  const threads = await Promise.all(Array.from({ length: 20 }, () => newThread(server)))
  const comeAndGo = async (count: number) => {
    const clients = await Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const socket = connect(port, '127.0.0.1').on('error', () => {})
        await once(socket, 'connect')
        socket.write(`GET /threads/${threads[i % 20]}/stream HTTP/1.1\r\nHost: h\r\n\r\n`)
        await once(socket, 'data')
        return socket
      }),
    )
    expect((await channels()).length).toBeGreaterThanOrEqual(20)
    for (const socket of clients) socket.destroy()
  }
  const quiet = { channels: await channels(), sockets: sockets() }
  const settled = () =>
    until(
      'all is as before',
      async () => (await channels()).length === quiet.channels.length && sockets() <= quiet.sockets,
    )
  await comeAndGo(100)
  await settled()
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  const before = process.memoryUsage().heapUsed
  for (let round = 0; round < 10; round++) await comeAndGo(100)
  await settled()
  expect(await channels()).toEqual(quiet.channels)
  const grown = await until('the heap is small again', () => {
    collect()
    const bytes = process.memoryUsage().heapUsed - before
    return bytes < 4 * 1024 * 1024 && { bytes }
  })
  expect(grown.bytes).toBeLessThan(4 * 1024 * 1024)
})

/** A hundred times the same at once, on two servers by turns; gives how often each status came, and the bodies. */
async function hundred(servers: readonly TestServer[], ask: (server: TestServer, i: number) => Promise<Response>) {
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, i) => ask(servers[i % servers.length] as TestServer, i)),
  )
  const counts: Record<number, number> = {}
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1
  const bodies = await Promise.all(answers.map((answer) => answer.json() as Promise<Record<string, unknown>>))
  return {
    counts,
    bodies,
    values: (key: string) => new Set(bodies.flatMap((body) => (key in body ? [body[key]] : []))),
  }
}

test('row 53: of a hundred requests at once for the same thing, one makes it, and the others are told of it or refused', async () => {
  const servers = [await stage.heddle(), await stage.heddle()]
  const [{ client }] = servers as [TestServer]
  const threadId = await newThread(servers[0] as TestServer)

  const key = { 'idempotency-key': v7() }
  const body = { assistant_id: 'steps', input: { log: ['in'] } }
  const same = await hundred(servers, (server) => server.request('POST', `/threads/${threadId}/runs`, body, key))
  expect([same.counts, same.values('run_id').size]).toEqual([{ 200: 100 }, 1])

  const other = { 'idempotency-key': v7() }
  const mixed = await hundred(servers, (server, i) =>
    server.request('POST', `/threads/${threadId}/runs`, { ...body, metadata: { odd: i % 4 < 2 } }, other),
  )
  expect([mixed.counts, mixed.values('run_id').size]).toEqual([{ 200: 50, 422: 50 }, 1])
  expect(mixed.values('code')).toEqual(new Set(['idempotency_conflict']))
  const [first, second] = await client.runs.list(threadId)
  expect((await client.runs.list(threadId)).length).toBe(2)
  for (const run of [first, second]) await client.runs.join(threadId, String(run?.run_id))

  for (const [path, name, more] of [
    ['/threads', 'thread_id', {}],
    ['/assistants', 'assistant_id', { graph_id: 'steps' }],
  ] as const) {
    const ids = { [name]: v7(), ...more }
    const raised = await hundred(servers, (server) => server.request('POST', path, ids))
    expect([path, raised.counts]).toEqual([path, { 200: 1, 409: 99 }])
    const given = { [name]: v7(), ...more, if_exists: 'do_nothing' }
    const taken = await hundred(servers, (server) => server.request('POST', path, given))
    expect([path, taken.counts, taken.values('created_at').size]).toEqual([path, { 200: 100 }, 1])
  }

  const fresh = v7()
  const made = await hundred(servers, (server) =>
    server.request('POST', `/threads/${fresh}/runs`, { ...body, if_not_exists: 'create' }),
  )
  expect([made.counts, made.values('run_id').size]).toEqual([{ 200: 100 }, 100])
  for (const id of made.values('run_id')) await client.runs.join(fresh, String(id))
  const { log } = (await client.threads.getState<{ log: string[] }>(fresh)).values
  expect(log).toEqual(Array.from({ length: 100 }, () => ['in', 'first', 'second', 'third']).flat())
})

test('row 56: a thousand that resume at once each get their rest, and share what is read for them', async () => {
  const troupe = createTroupe(stage)
  const worker = await troupe.here('worker')
  const left = await troupe.here('api')
  const threadId = await newThread(left)
  const input = troupe.input({ two: 'gate', four: 'last gate' }, { events: 100 })
  const run = await left.client.runs.create(threadId, 'steps', { input, streamMode: ['custom', 'updates'] })
  await troupe.began(run.run_id, 'two')
  await left.close()

  const taken = await troupe.here('api', { database: { uri: driver.through(stage.uri()) } })
  let statements = 0
  driver.faults(() => {
    statements++
    return undefined
  })
  const whole = await (await joinOn(taken, run, '-1')).upTo(({ event }) => event === 'updates')
  const ids = whole.map(({ id }) => String(id))
  statements = 0
  const readers = await Promise.all(
    Array.from({ length: 1_000 }, async (_, i) => {
      const from = i % ids.length
      return { from, reader: await joinOn(taken, run, ids[from] as string) }
    }),
  )
  const rests = readers.map(async ({ from, reader }) => {
    const known = await reader.upTo(({ event, data }) => event === 'updates' && 'two' in data)
    reached++
    return { from, known, reader }
  })
  let reached = 0
  troupe.open('gate')
  const caught = await Promise.all(rests)
  expect(reached).toBe(1_000)
  // What each asks for itself when it comes: which run this is, whether it has ended, and where to begin.
  expect(statements).toBeLessThan(4_000)
  statements = 0
  troupe.open('last gate')
  const suffixes = await Promise.all(
    caught.map(async ({ from, known, reader }) => ({ from, events: [...known, ...(await reader.rest())] })),
  )
  expect(statements).toBeLessThan(200)
  driver.faults()
  const log = await (await joinOn(taken, run, '-1')).rest()
  for (const { from, events } of suffixes) {
    expect(events.map(({ id, event }) => `${id} ${event}`)).toEqual(
      log.slice(from + 1).map(({ id, event }) => `${id} ${event}`),
    )
  }
  expect(await taken.client.runs.join(threadId, run.run_id)).toMatchObject({ done: NODES })
  expect(worker.seen.filter(({ kind }) => kind === 'run_settled')).toHaveLength(1)
})

test('row 57: nothing that a client sends is a pattern that can run away', async () => {
  const server = await stage.heddle()
  const evil = [
    '(a+)+$',
    '^(([a-z])+.)+[A-Z]([a-z])+$',
    '(a|aa)+$',
    '%_%_%_%_%_%_%',
    '((((((((((a*)*)*)*)*)*)*)*)*)*)b',
  ]
  const long = `${'a'.repeat(100_000)}!`
  await server.client.assistants.create({ graphId: 'steps', name: 'a'.repeat(200), metadata: { long } })
  await server.client.threads.create({ metadata: { long } })
  await server.client.store.putItem(['a'], 'k', { long })
  const asked = evil.flatMap((pattern): [string, object][] => [
    ['/assistants/search', { name: pattern }],
    ['/assistants/search', { metadata: { long: pattern } }],
    ['/threads/search', { metadata: { long: pattern }, values: { long: pattern } }],
    ['/threads/search', { extract: { x: `metadata.${pattern}` } }],
    ['/store/items/search', { namespace_prefix: ['a'], query: pattern, filter: { long: { $eq: pattern } } }],
    ['/store/items/search', { namespace_prefix: ['a'], filter: { long: { $regex: pattern } } }],
    ['/store/namespaces', { prefix: [pattern], suffix: ['*', pattern] }],
  ])
  const more: [string, object][] = [
    ['/threads/search', { extract: { x: `metadata.${'a[0]'.repeat(20_000)}` } }],
    ['/threads/search', { extract: { x: `metadata.${'a.'.repeat(20_000)}` } }],
    ['/assistants/search', { name: long }],
  ]
  const statuses = new Set<number>()
  for (const [path, body] of [...asked, ...more]) {
    const began = performance.now()
    const { status } = await server.request('POST', path, body)
    expect([path, body, performance.now() - began < 3_000]).toEqual([path, body, true])
    statuses.add(status)
  }
  expect([...statuses].toSorted()).toEqual([200, 422])
  for (const pattern of evil) {
    const { status } = await server.request('GET', `/store/items?namespace=${encodeURIComponent(pattern)}&key=${long}`)
    expect([400, 404, 422]).toContain(status)
  }
})
