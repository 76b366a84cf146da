// Workers that die, lose their lease, or stop: their runs go on elsewhere from what was committed, and end once.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { v7 } from 'uuid'
import { afterEach, expect, test } from 'vitest'
import { failure } from '../api/nouns.ts'
import { named } from '../api/run-server.ts'
import { readEvents } from '../support/events.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { startProxy } from '../support/proxy.ts'
import { eachStack, type Stack, startServer, type TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'

const uriOf = (stack: Stack): string => {
  const settings = stack.database()
  if (!('uri' in settings)) throw new Error('this stack has no address')
  return settings.uri
}

async function query(stack: Stack, text: string, values: unknown[]): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: uriOf(stack) })
  await client.connect()
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end()
  }
}

/** As if the worker that holds the run had died: the run is held by one that does not live. */
const orphan = (stack: Stack, runId: string) =>
  query(stack, 'update runs set worker_id = gen_random_uuid() where run_id = $1', [runId])

const has = (server: TestServer, kind: string, runId: string) => () =>
  server.seen.some((seen) => seen.kind === kind && 'run_id' in seen && seen.run_id === runId)

eachStack(
  (stack) => {
    const closing: (() => Promise<void>)[] = []
    // Each test has the database to itself: a worker that is left would take the next one's runs, and the other way round.
    const clear = async () => {
      await Promise.all(closing.splice(0).map((close) => close()))
      await query(stack, 'with w as (delete from workers) delete from threads', [])
    }
    afterEach(clear)
    const heddle = async (options: Parameters<Stack['heddle']>[0]) => {
      const server = await stack.heddle({ ...options, config: { shutdownGraceSeconds: 0.05, ...options.config } })
      closing.push(server.close)
      return server
    }
    /** A run that waits in `second` on a worker, with a second worker beside it. */
    const held = async (config: { maxAttempts?: number } = {}) => {
      const made = createRunGraphs()
      const settings = { leaseSeconds: 2, maxAttempts: 3, ...config }
      const dying = await heddle({ graphs: made.graphs, config: settings })
      const { thread_id: threadId } = await dying.client.threads.create()
      const gate = v7()
      const body = { assistant_id: 'steps', input: { log: ['in'], hold: { second: gate } }, stream_mode: 'updates' }
      const stream = readEvents(await dying.request('POST', `/threads/${threadId}/runs/stream`, body))
      const begun = await stream.upTo(({ event }) => event === 'updates')
      await made.gates.reached(gate)
      const other = await heddle({ graphs: made.graphs, config: settings })
      return { ...made, dying, other, threadId, gate, stream, begun, runId: begun[0]?.data.run_id as string }
    }

    test('the run of a worker that died goes on elsewhere; no committed node runs again, the rest runs once more', async () => {
      const { dying, other, threadId, runId, gate, gates, ran, stream, begun } = await held()
      await orphan(stack, runId)
      await gates.reached(gate, 2)
      const [claimed] = await query(stack, 'select attempt from runs where run_id = $1', [runId])
      expect(claimed).toEqual({ attempt: 2 })
      gates.open(gate)
      const rest = await stream.rest()
      expect(named([...begun, ...rest])).toEqual([
        ['metadata', { run_id: runId, attempt: 1 }],
        ['updates', { first: { log: ['first'] } }],
        ['metadata', { run_id: runId, attempt: 2 }],
        ['updates', { second: { log: ['second'] } }],
        ['updates', { third: { log: ['third'] } }],
        ['end', null],
      ])
      // The old worker lives here, and may begin a node before it hears that it is the old one.
      const nodes = ran.map(({ node, attempt }) => `${node} ${attempt}`)
      expect(nodes.filter((one) => one !== 'third 1')).toEqual(['first 1', 'second 1', 'second 2', 'third 2'])
      expect(await other.client.runs.join(threadId, runId)).toMatchObject({ log: ['in', 'first', 'second', 'third'] })
      expect((await other.client.runs.get(threadId, runId)).status).toBe('success')
      await until(
        'the worker before knows',
        () => has(dying, 'run_lease_lost', runId)() || has(other, 'run_lease_lost', runId)(),
      )
      const settled = [dying, other].flatMap(({ seen }) =>
        seen.filter((one) => one.kind === 'run_settled' && one.run_id === runId),
      )
      expect(settled).toHaveLength(1)
    })

    test('a run that took its worker with it too often becomes an error that says so', async () => {
      const { other, threadId, runId, gate, gates, stream } = await held({ maxAttempts: 2 })
      await orphan(stack, runId)
      await gates.reached(gate, 2)
      const joined = other.client.runs.join(threadId, runId)
      await orphan(stack, runId)
      const events = named(await stream.rest())
      const error = { error: 'RunCrashed', message: expect.stringContaining('2 times') }
      expect(events.slice(-2)).toEqual([
        ['error', error],
        ['end', null],
      ])
      expect(await joined).toEqual({ __error__: error })
      expect((await other.client.runs.get(threadId, runId)).status).toBe('error')
      expect(await other.client.threads.get(threadId)).toMatchObject({ status: 'error', error })
      gates.open(gate)
      const again = await other.client.runs.wait(threadId, 'steps', { input: { hold: null } })
      expect(again).toMatchObject({ log: ['in', 'first', 'first', 'second', 'third'] })
    })

    test.each(['interrupt', 'rollback'] as const)(
      'a run that was to be cancelled (%s) when its worker died is cancelled, not tried again',
      async (action) => {
        const { other, threadId, runId, ran, stream } = await held()
        // As if the worker died with the wish unheard.
        const wish = 'update runs set worker_id = gen_random_uuid(), cancel_action = $2 where run_id = $1'
        await query(stack, wish, [runId, action])
        expect(named(await stream.rest())).toEqual([['end', null]])
        if (action === 'interrupt') expect((await other.client.runs.get(threadId, runId)).status).toBe('interrupted')
        else {
          expect(await failure(other.client.runs.get(threadId, runId))).toMatchObject({ status: 404 })
          expect(await other.client.threads.getHistory(threadId)).toEqual([])
        }
        await other.client.runs.wait(threadId, 'steps', { input: { log: [], hold: null } })
        expect(ran.filter(({ run_id, node }) => run_id === runId && node === 'third')).toEqual([])
      },
    )

    test('a run whose worker is dead is cancelled at once, and nobody has to wait for a rescue', async () => {
      for (const action of ['interrupt', 'rollback'] as const) {
        const made = createRunGraphs()
        const { client } = await heddle({ graphs: made.graphs, role: 'api' })
        const { thread_id: threadId } = await client.threads.create()
        const run = await client.runs.create(threadId, 'steps', { input: {} })
        const take = `with t as (update threads set held_by = $1, epoch = epoch + 1 where thread_id = $2)
          update runs set status = 'running', attempt = 1, worker_id = gen_random_uuid() where run_id = $1`
        await query(stack, take, [run.run_id, threadId])
        await client.runs.cancel(threadId, run.run_id, true, action)
        if (action === 'rollback') expect(await client.runs.list(threadId)).toEqual([])
        else {
          expect((await client.runs.get(threadId, run.run_id)).status).toBe('interrupted')
          const path = `/threads/${threadId}/runs/${run.run_id}/stream`
          const server = await heddle({ graphs: made.graphs, role: 'api' })
          const events = readEvents(await server.request('GET', path, undefined, { 'last-event-id': '-1' }))
          expect(named(await events.rest())).toEqual([['end', null]])
        }
        expect(await client.threads.get(threadId)).toMatchObject({ status: 'idle' })
      }
    })

    test('a worker that cannot reach the database stops its runs before others take them, and writes nothing more', async () => {
      const made = createRunGraphs()
      const proxy = await startProxy(uriOf(stack), 5432)
      closing.push(proxy.close)
      const redis = stack.redis()
      const config = { leaseSeconds: 2, shutdownGraceSeconds: 0.1 }
      const cutOff = await startServer({
        graphs: made.graphs,
        config,
        database: { uri: proxy.uri },
        ...(redis && { redis }),
      })
      closing.push(cutOff.close)
      const { thread_id: threadId } = await cutOff.client.threads.create()
      const gate = v7()
      const run = await cutOff.client.runs.create(threadId, 'steps', { input: { log: ['in'], hold: { second: gate } } })
      await made.gates.reached(gate)
      const other = await heddle({ graphs: made.graphs, config })
      await until(
        'first is stored',
        async () => ((await other.client.threads.getState<{ log: string[] }>(threadId)).values.log ?? []).length === 2,
      )
      proxy.refuse()
      await made.gates.reached(gate, 2)
      expect(has(cutOff, 'run_lease_lost', run.run_id)()).toBe(true)
      made.gates.open(gate)
      expect(await other.client.runs.join(threadId, run.run_id)).toMatchObject({
        log: ['in', 'first', 'second', 'third'],
      })
      expect(made.ran.map(({ node, attempt }) => `${node} ${attempt}`)).toEqual([
        'first 1',
        'second 1',
        'second 2',
        'third 2',
      ])
      proxy.mend()
      expect(await cutOff.client.runs.wait(threadId, 'steps', { input: { hold: null } })).toMatchObject({ hold: null })
    })

    test('a server that stops gives its runs back uncharged, and they go on from what was committed', async () => {
      const made = createRunGraphs()
      const stopping = await heddle({ graphs: made.graphs, config: { shutdownGraceSeconds: 0.05 } })
      const { thread_id: threadId } = await stopping.client.threads.create()
      const gate = v7()
      const run = await stopping.client.runs.create(threadId, 'steps', {
        input: { log: ['in'], hold: { second: gate } },
      })
      await made.gates.reached(gate)
      await stopping.close()
      const [row] = await query(stack, 'select status, attempt, worker_id from runs where run_id = $1', [run.run_id])
      expect(row).toEqual({ status: 'pending', attempt: 0, worker_id: null })
      const other = await heddle({ graphs: made.graphs })
      await made.gates.reached(gate, 2)
      made.gates.open(gate)
      expect(await other.client.runs.join(threadId, run.run_id)).toMatchObject({
        log: ['in', 'first', 'second', 'third'],
      })
      expect(made.ran.map(({ node, attempt }) => `${node} ${attempt}`)).toEqual([
        'first 1',
        'second 1',
        'second 1',
        'third 1',
      ])
    })

    test('what a command changed is not changed again when its run goes on elsewhere', async () => {
      const made = createRunGraphs()
      const stopping = await heddle({ graphs: made.graphs })
      const { thread_id: threadId } = await stopping.client.threads.create()
      await stopping.client.runs.wait(threadId, 'steps', { input: { log: ['in'] } })
      const gate = v7()
      const command = { update: { log: ['mine'], hold: { third: gate } }, goto: 'second' }
      const run = await stopping.client.runs.create(threadId, 'steps', { command })
      await made.gates.reached(gate)
      await stopping.close()
      const other = await heddle({ graphs: made.graphs })
      await made.gates.reached(gate, 2)
      made.gates.open(gate)
      expect(await other.client.runs.join(threadId, run.run_id)).toMatchObject({
        log: ['in', 'first', 'second', 'third', 'mine', 'second', 'third'],
      })
    })

    test('a server that stops lets runs finish first, as long as it may', async () => {
      const made = createRunGraphs()
      const stopping = await heddle({ graphs: made.graphs })
      const { thread_id: threadId } = await stopping.client.threads.create()
      const gate = v7()
      const run = await stopping.client.runs.create(threadId, 'steps', { input: { log: [], hold: { second: gate } } })
      await made.gates.reached(gate)
      const closed = stopping.close()
      made.gates.open(gate)
      await closed
      const [row] = await query(stack, 'select status, attempt from runs where run_id = $1', [run.run_id])
      expect(row).toEqual({ status: 'success', attempt: 1 })
      expect(await query(stack, 'select * from workers', [])).toEqual([])
    })
  },
  { only: ['postgres+redis', 'postgres'] },
)

test('an embedded server that stops and starts on its data goes on with what was under way', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'heddle-test-'))
  const made = createRunGraphs()
  try {
    const config = { shutdownGraceSeconds: 0.05 }
    const first = await startServer({ graphs: made.graphs, database: { dataDir }, config })
    const { thread_id: threadId } = await first.client.threads.create()
    const gate = v7()
    const running = await first.client.runs.create(threadId, 'steps', {
      input: { log: ['in'], hold: { second: gate } },
    })
    await made.gates.reached(gate)
    const waiting = await first.client.runs.create(threadId, 'steps', { input: { hold: null } })
    await first.close()
    const second = await startServer({ graphs: made.graphs, database: { dataDir }, config })
    await made.gates.reached(gate, 2)
    made.gates.open(gate)
    await second.client.runs.join(threadId, waiting.run_id)
    expect((await second.client.runs.get(threadId, running.run_id)).status).toBe('success')
    expect((await second.client.threads.get(threadId)).values).toMatchObject({
      log: ['in', 'first', 'second', 'third', 'first', 'second', 'third'],
    })
    await second.close()
  } finally {
    rmSync(dataDir, { recursive: true, force: true })
  }
})
