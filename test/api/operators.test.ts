// What an operator sees: why a run waits, whether who runs it lives, and how the server stands with its database and bus.

import { v7 } from 'uuid'
import { beforeAll, expect, test } from 'vitest'
import { createLog } from '../../src/cli/log.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { startProxy } from '../support/proxy.ts'
import { eachStack, startServer, type TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'

type View = { status: string; attempt: number; waiting: Record<string, unknown> | null; worker_alive: boolean | null }

eachStack((stack) => {
  const { graphs, gates } = createRunGraphs()
  let server: TestServer
  beforeAll(async () => {
    server = await stack.heddle({ graphs, config: { jobsPerWorker: 1 } })
  })
  const thread = async () => (await server.client.threads.create()).thread_id
  const run = async (threadId: string, body: object = {}) =>
    (await server.client.runs.create(threadId, 'steps', { input: { log: [] }, ...body })).run_id
  const look = async (threadId: string, runId: string) =>
    (await server.client.runs.get(threadId, runId)) as unknown as View
  const waits = (runId: string) =>
    server.seen.flatMap((one) => (one.kind === 'run_created' && one.run_id === runId ? [one.waits] : []))

  test('a run says why it waits: its time, its thread, a free slot; and nothing of it once it runs and has ended', async () => {
    const [busy, free, gate] = [await thread(), await thread(), v7()]
    const first = await run(busy, { input: { log: [], hold: { first: gate } } })
    const [second, third] = [await run(busy), await run(busy)]
    const later = await run(busy, { afterSeconds: 3_600 })
    const elsewhere = await run(free)
    await gates.reached(gate)
    expect(await look(busy, first)).toMatchObject({ status: 'running', attempt: 1, waiting: null, worker_alive: true })
    const behind = (position: number) => ({ reason: 'thread_busy', position, behind_run_id: first })
    expect(await look(busy, second)).toMatchObject({ attempt: 0, waiting: behind(1), worker_alive: null })
    expect((await look(busy, third)).waiting).toMatchObject(behind(2))
    const { waiting } = await look(busy, later)
    expect(waiting).toMatchObject({ reason: 'not_before', position: 3 })
    expect(Date.parse(waiting?.available_at as string)).toBeGreaterThan(Date.now() + 3_500_000)
    expect((await look(free, elsewhere)).waiting).toMatchObject({
      reason: 'no_free_slot',
      position: 0,
      behind_run_id: null,
    })
    const listed = (await server.client.runs.list(busy)) as unknown as View[]
    expect(listed.map((one) => one.waiting?.reason)).toEqual(['not_before', 'thread_busy', 'thread_busy', undefined])
    const narrow = await server.request('GET', `/threads/${busy}/runs?select=run_id,waiting&status=pending&limit=1`)
    expect(await narrow.json()).toEqual([{ run_id: later, waiting }])

    // Where the worker was just looking for runs, it found it there.
    expect([undefined, 'no_free_slot']).toContain(waits(first)[0]?.reason)
    expect(waits(second)).toEqual([behind(1)])
    expect(waits(third)).toEqual([behind(2)])
    expect(waits(later)).toEqual([{ ...behind(3), reason: 'not_before' }])
    expect(waits(elsewhere)).toEqual([{ reason: 'no_free_slot', position: 0, behind_run_id: null }])

    gates.open(gate)
    await server.client.runs.cancel(busy, later, true)
    for (const [threadId, runId] of [
      [busy, third],
      [free, elsewhere],
    ] as const)
      await server.client.runs.join(threadId, runId)
    expect(await look(busy, third)).toMatchObject({ status: 'success', attempt: 1, waiting: null, worker_alive: null })
  })

  test('the log tells of a run that waited, with the ids of the run and its thread', () => {
    const lines: string[] = []
    const log = createLog({ level: 'info', json: true, color: false }, { write: (text) => lines.push(text) })
    const ids = { run_id: 'r', thread_id: 't' }
    log({ kind: 'run_created', ...ids, strategy: 'enqueue' })
    log({
      kind: 'run_created',
      ...ids,
      strategy: 'enqueue',
      waits: { reason: 'thread_busy', position: 2, behind_run_id: 'q' },
    })
    log({ kind: 'run_claimed', ...ids, attempt: 1, waited_ms: 20 })
    log({ kind: 'run_claimed', ...ids, attempt: 2, waited_ms: 12_345.6 })
    log.flush()
    const said = lines
      .join('')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(said).toMatchObject([
      { level: 'info', ...ids, attempt: 0, reason: 'thread_busy', position: 2, behind_run_id: 'q' },
      { level: 'info', msg: 'run claimed after a long wait', ...ids, attempt: 2, waited_ms: 12_345.6 },
    ])
  })

  test('/ok says that the server answers, and when it is asked how database and bus are', async () => {
    expect(await (await server.request('GET', '/ok')).json()).toEqual({ ok: true })
    const checked = await server.request('GET', '/ok?check_db=1')
    expect(await checked.json()).toEqual({ ok: true, services: { database: 'up', bus: 'up' } })
  })
})

eachStack(
  (stack) => {
    test('where no worker lives, a run says so, and that the one which ran it is gone', async () => {
      const { graphs, gates } = createRunGraphs()
      const api = await stack.heddle({ graphs, role: 'api' })
      const { thread_id: threadId } = await api.client.threads.create()
      const gate = v7()
      const { run_id } = await api.client.runs.create(threadId, 'steps', { input: { log: [], hold: { first: gate } } })
      const look = async () => (await api.client.runs.get(threadId, run_id)) as unknown as View
      expect((await look()).waiting).toMatchObject({ reason: 'no_worker', position: 0 })
      const worker = await stack.heddle({ graphs, role: 'worker', config: { shutdownGraceSeconds: 0 } })
      await gates.reached(gate)
      expect(await look()).toMatchObject({ status: 'running', worker_alive: true })
      gates.open(gate)
      await api.client.runs.join(threadId, run_id)
      await worker.close()
    })

    test('a worker leaves alone the runs of graphs that it does not serve, and they say so until one comes that does', async () => {
      const { graphs, gates } = createRunGraphs()
      const api = await stack.heddle({ graphs, role: 'api' })
      const other = await stack.heddle({ graphs: { other: graphs.steps as object } })
      const { thread_id: threadId } = await api.client.threads.create()
      const gate = v7()
      const { run_id } = await api.client.runs.create(threadId, 'steps', { input: { log: [], hold: { first: gate } } })
      // Created after it: once this one has ended, the worker has passed over the first.
      expect(await other.client.runs.wait(null, 'other', { input: { log: [] } })).toMatchObject({
        log: ['first', 'second', 'third'],
      })
      const look = async () => (await api.client.runs.get(threadId, run_id)) as unknown as View
      expect(await look()).toMatchObject({ status: 'pending', attempt: 0, waiting: { reason: 'graph_not_served' } })
      const worker = await stack.heddle({ graphs, role: 'worker', config: { shutdownGraceSeconds: 0 } })
      await gates.reached(gate)
      expect(await look()).toMatchObject({ status: 'running', attempt: 1 })
      gates.open(gate)
      await api.client.runs.join(threadId, run_id)
      await worker.close()
    })

    test('/ok?check_db=1 is 503 in a few seconds while the database is deaf; losing it and having it back is observed once', async () => {
      const settings = stack.database()
      if (!('uri' in settings)) throw new Error('this stack has no address')
      const proxy = await startProxy(settings.uri, 5432)
      const server = await startServer({
        graphs: createRunGraphs().graphs,
        database: { uri: proxy.uri },
        redis: stack.redis() as never,
        config: { shutdownGraceSeconds: 0 },
      })
      try {
        proxy.freeze()
        const began = performance.now()
        const answer = await server.request('GET', '/ok?check_db=1')
        expect([answer.status, await answer.json()]).toMatchObject([503, { code: 'database_unavailable' }])
        expect(performance.now() - began).toBeLessThan(6_000)
        expect((await server.request('GET', '/ok')).status).toBe(200)
        proxy.refuse()
        const said = (kind: string) =>
          server.seen.filter((one) => one.kind === kind && (one as { where: string }).where === 'requests')
        await until('the loss is observed', () => said('database_failed').length > 0)
        // Several loops run into it meanwhile.
        await until('they keep trying', () => proxy.refused() > 10, 20_000)
        proxy.mend()
        await until('it is back', () => said('database_restored').length > 0, 20_000)
        expect((await server.request('GET', '/ok?check_db=1')).status).toBe(200)
        expect([said('database_failed').length, said('database_restored').length]).toEqual([1, 1])
      } finally {
        await server.close()
        await proxy.close()
      }
    }, 60_000)
  },
  { only: ['postgres+redis', 'postgres'] },
)
