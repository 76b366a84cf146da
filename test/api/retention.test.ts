// How long threads are kept, through the official client: what has no time left is seen by nobody, is swept by any number of
// servers, and never from under a run.

import { v7 } from 'uuid'
import { beforeAll, expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { silent } from '../../src/observe.ts'
import { notes } from '../support/graphs/notes.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { eachStack, type TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'

/** Some milliseconds, in minutes. */
const MOMENT = 0.0002
const DAY = 24 * 60

eachStack((stack) => {
  const { graphs, gates } = createRunGraphs()
  let lasting: TestServer
  beforeAll(async () => {
    // Its sweeper looks once, at the start.
    lasting = await stack.heddle({
      graphs: { ...graphs, notes },
      config: { threadTtl: { strategy: 'delete', ttl: DAY } },
    })
  })
  const ttlOf = async (id: string) =>
    (await lasting.client.threads.get(id, { include: ['ttl'] })) as unknown as {
      ttl: { strategy: string; ttl_minutes: number }
    }
  const input = { log: ['said'] }

  test('every new thread gets the default time to live, unless it brings one', async () => {
    const { client } = lasting
    const made = await client.threads.create()
    const own = await client.threads.create({ ttl: { ttl: 5, strategy: 'keep_latest' } as never })
    const byRun = v7()
    await client.runs.wait(byRun, 'steps', { input, ifNotExists: 'create' })
    const copied = await client.threads.copy(made.thread_id)
    const supersteps = [{ updates: [{ values: input, asNode: '__input__' }] }]
    const built = await client.threads.create({ graphId: 'steps', supersteps })
    for (const id of [made.thread_id, byRun, copied.thread_id, built.thread_id])
      expect((await ttlOf(id)).ttl).toMatchObject({ strategy: 'delete', ttl_minutes: DAY })
    expect((await ttlOf(own.thread_id)).ttl).toMatchObject({ strategy: 'keep_latest', ttl_minutes: 5 })
    expect((await ttlOf((await client.threads.copy(own.thread_id)).thread_id)).ttl.ttl_minutes).toBe(5)
    expect(
      (await ttlOf((await client.threads.create({ threadId: own.thread_id, ifExists: 'do_nothing' })).thread_id)).ttl,
    ).toMatchObject({ ttl_minutes: 5 })
  })

  test('a thread whose time is over is seen by nobody, before it is swept', async () => {
    const { client, request } = lasting
    const { threads, runs } = client
    const mark = v7()
    const { thread_id: id } = await threads.create({ metadata: { mark }, ttl: DAY })
    const run = await runs.create(id, 'steps', { input })
    await runs.join(id, run.run_id)
    expect(await threads.count({ metadata: { mark } })).toBe(1)
    await threads.update(id, { ttl: MOMENT })
    await until('it is gone', async () => (await request('GET', `/threads/${id}`)).status === 404)
    expect(await threads.search({ metadata: { mark } })).toEqual([])
    expect(await threads.search({ ids: [id] })).toEqual([])
    expect(await threads.count({ metadata: { mark } })).toBe(0)
    const asked: [string, string, unknown?][] = [
      ['GET', `/threads/${id}/state`],
      ['POST', `/threads/${id}/history`, {}],
      ['GET', `/threads/${id}/storage`],
      ['GET', `/threads/${id}/runs`],
      ['GET', `/threads/${id}/runs/${run.run_id}`],
      ['GET', `/threads/${id}/runs/${run.run_id}/join`],
      ['GET', `/threads/${id}/stream`],
      ['PATCH', `/threads/${id}`, { metadata: {} }],
      ['POST', `/threads/${id}/copy`],
      ['POST', `/threads/${id}/state`, { values: input }],
      ['POST', `/threads/${id}/runs`, { assistant_id: 'steps', input }],
      ['DELETE', `/threads/${id}`],
    ]
    for (const [method, path, body] of asked)
      expect([method, path, (await request(method, path, body)).status]).toEqual([method, path, 404])
    expect(await threads.prune([id])).toEqual({ pruned_count: 0 })
  })

  test('the id of a thread whose time is over can be used again, with nothing of what was', async () => {
    const { threads, runs } = lasting.client
    const ids = [v7(), v7(), v7()]
    for (const threadId of ids) {
      await threads.create({ threadId, metadata: { old: true } })
      await runs.wait(threadId, 'steps', { input })
      await threads.update(threadId, { ttl: MOMENT })
      await until('it is gone', async () => (await lasting.request('GET', `/threads/${threadId}`)).status === 404)
    }
    const [byHand, byEither, byRun] = ids as [string, string, string]
    await threads.create({ threadId: byHand })
    await threads.create({ threadId: byEither, ifExists: 'do_nothing' })
    await runs.wait(byRun, 'steps', { input, ifNotExists: 'create' })
    for (const id of ids) {
      expect((await threads.get(id)).metadata).not.toHaveProperty('old')
      expect(await runs.list(id)).toHaveLength(id === byRun ? 1 : 0)
    }
    expect((await threads.getState<{ log: string[] }>(byRun)).values.log).toEqual(['said', 'first', 'second', 'third'])
  })

  test('a thread is not taken from a run, and has its time anew when that has ended', async () => {
    const server = await stack.heddle({ graphs, config: { sweepIntervalSeconds: 0.01 } })
    const { threads, runs } = server.client
    const { thread_id: id } = await threads.create()
    const gate = v7()
    const run = await runs.create(id, 'steps', { input: { ...input, hold: { second: gate } } })
    await gates.reached(gate)
    await threads.update(id, { ttl: MOMENT })
    // Others that are swept show that the sweeper has been there since.
    const gone = async (other: string) => (await server.request('GET', `/threads/${other}`)).status === 404
    for (const time of [MOMENT, MOMENT]) {
      const other = await threads.create({ ttl: time })
      await until('its time is over', () => gone(other.thread_id))
      const before = swept([server])
      await threads.create({ ttl: time })
      await until('the sweeper has been there', () => swept([server]) > before)
    }
    expect((await threads.get(id)).status).toBe('busy')
    await threads.update(id, { ttl: DAY })
    gates.open(gate)
    expect(await runs.join(id, run.run_id)).toMatchObject({ log: ['said', 'first', 'second', 'third'] })
    await threads.update(id, { ttl: MOMENT })
    await until('it is gone', async () => (await server.request('GET', `/threads/${id}`)).status === 404)
  })

  test('of a thread that keeps its latest checkpoint, that and what it needs is left, and it goes on', async () => {
    const server = await stack.heddle({ graphs, config: { sweepIntervalSeconds: 0.01 } })
    const { threads, runs } = server.client
    const { thread_id: id } = await threads.create()
    for (let i = 0; i < 3; i++) await runs.wait(id, 'steps', { input })
    const before = await threads.getState(id)
    expect((await threads.getHistory(id, { limit: 100 })).length).toBe(15)
    await server.request('PATCH', `/threads/${id}`, { ttl: { ttl: MOMENT, strategy: 'keep_latest' } })
    await until('only the latest is left', async () => (await threads.getHistory(id, { limit: 100 })).length === 1)
    await threads.update(id, { ttl: DAY })
    expect(await threads.getState(id)).toEqual(before)
    const ended = (await runs.wait(id, 'steps', { input })) as { log: string[] }
    expect(ended.log).toEqual(Array.from({ length: 4 }, () => ['said', 'first', 'second', 'third']).flat())
  })

  test('what waits for an answer in a subgraph still takes it after pruning', async () => {
    const { threads, runs } = lasting.client
    const { thread_id: id } = await threads.create()
    await runs.wait(id, 'notes', { input: { topic: 'a' } })
    await runs.wait(id, 'notes', { input: { topic: 'b', ask: 'inner' } })
    const before = await threads.getState(id, undefined, { subgraphs: true })
    expect(before.next).toHaveLength(1)
    expect(await threads.prune([id], { strategy: 'keep_latest' })).toEqual({ pruned_count: 1 })
    expect(await threads.getState(id, undefined, { subgraphs: true })).toEqual(before)
    expect(await runs.wait(id, 'notes', { command: { resume: 'yes' } })).toMatchObject({ thought: 'yes' })
    expect((await threads.getState(id)).next).toEqual([])
  })

  test('what a rolled back run left over is collected', async () => {
    const server = await stack.heddle({ graphs, config: { sweepIntervalSeconds: 0.01 } })
    const { threads, runs } = server.client
    const { thread_id: id } = await threads.create()
    await runs.wait(id, 'steps', { input })
    const size = async () => (await server.request('GET', `/threads/${id}/storage`)).json()
    const before = await size()
    const gate = v7()
    const run = await runs.create(id, 'steps', { input: { ...input, hold: { third: gate } } })
    await gates.reached(gate)
    await runs.cancel(id, run.run_id, true, 'rollback')
    await until('it takes what it took before', async () => {
      const now = await size()
      return now.total_bytes === before.total_bytes && now
    })
    expect(await size()).toEqual(before)
  })
})

eachStack(
  (stack) => {
    test('many servers sweep together, each thread once, and no run that was accepted goes with its thread', async () => {
      const { graphs } = createRunGraphs()
      const servers = await Promise.all(
        Array.from({ length: 3 }, () =>
          stack.heddle({ graphs, config: { sweepIntervalSeconds: 0.005, sweepLimit: 7 } }),
        ),
      )
      const { client, request } = servers[0] as TestServer
      const alone = await Promise.all(Array.from({ length: 60 }, () => client.threads.create({ ttl: MOMENT })))
      await until('all are swept', () => swept(servers) === alone.length)
      // Runs come while the time is just over.
      let accepted = 0
      for (let round = 0; round < 40; round++) {
        const { thread_id: id } = await client.threads.create({ ttl: MOMENT / 4 })
        const answer = await request('POST', `/threads/${id}/runs`, { assistant_id: 'steps', input: {} })
        if (answer.status === 404) continue
        accepted++
        const { run_id } = (await answer.json()) as { run_id: string }
        const seen = await request('GET', `/threads/${id}/runs/${run_id}`)
        if (seen.status === 404) expect(await events(servers, run_id)).toBe('success')
      }
      await until('all are swept', () => swept(servers) === alone.length + 40)
      expect(accepted).toBeLessThanOrEqual(40)
      const db = await openDatabase({ ...stack.database(), poolSize: 1 } as never, silent)
      try {
        for (const table of [
          'threads',
          'runs',
          'checkpoints',
          'checkpoint_values',
          'checkpoint_writes',
          'events',
        ] as const)
          expect(await db.rows(counts[table])).toEqual([{ n: 0 }])
      } finally {
        await db.close()
      }
    })
  },
  { only: ['postgres'] },
)

const swept = (servers: readonly TestServer[]): number =>
  servers.flatMap(({ seen }) => seen).reduce((sum, one) => sum + (one.kind === 'threads_swept' ? one.deleted : 0), 0)

/** How a run ended that is gone with its thread. */
const events = (servers: readonly TestServer[], runId: string) =>
  until(
    'the run has ended',
    () =>
      servers
        .flatMap(({ seen }) => seen)
        .flatMap((one) => (one.kind === 'run_settled' && one.run_id === runId ? [one.outcome] : []))[0],
  )

const counts = {
  threads: sql`select count(*) as n from threads`,
  runs: sql`select count(*) as n from runs`,
  checkpoints: sql`select count(*) as n from checkpoints`,
  checkpoint_values: sql`select count(*) as n from checkpoint_values`,
  checkpoint_writes: sql`select count(*) as n from checkpoint_writes`,
  events: sql`select count(*) as n from events`,
}
