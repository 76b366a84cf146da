// Where streams end: at their limits, at a place that is kept no longer, with a thread that is deleted, with a run that never
// began. Always with a word that stock clients understand or pass over.

import { Annotation, type LangGraphRunnableConfig, START, StateGraph } from '@langchain/langgraph'
import { v7 } from 'uuid'
import { beforeAll, expect, test } from 'vitest'
import * as events from '../../src/db/events.ts'
import { openDatabase } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { type EventReader, readEvents, type SeenEvent } from '../support/events.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { eachStack, type TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'
import { idsOf, named } from './run-server.ts'

const Flood = Annotation.Root({ count: Annotation<number>(), size: Annotation<number>(), heap: Annotation<string>() })
/** Says `count` things of `size` characters; then `heap` has the size of all of them. */
const flood = new StateGraph(Flood)
  .addNode('pour', async ({ count, size }, config: LangGraphRunnableConfig) => {
    for (let i = 0; i < count; i++) {
      config.writer?.({ i, text: 'x'.repeat(size) })
      if (i % 100 === 0) await new Promise(setImmediate)
    }
    return { count: -1 }
  })
  .addEdge(START, 'pour')
  .compile()
const heap = new StateGraph(Flood)
  .addNode('small', () => ({ count: 1 }))
  .addNode('grow', ({ size }) => ({ heap: 'x'.repeat(size) }))
  .addEdge(START, 'small')
  .addEdge('small', 'grow')
  .compile()

const MAX_BYTES = 100_000
const MAX_EVENTS = 200

eachStack((stack) => {
  const made = createRunGraphs()
  let server: TestServer
  beforeAll(async () => {
    server = await stack.heddle({
      graphs: { ...made.graphs, flood, heap },
      config: { runEventsMaxBytes: MAX_BYTES, runEventsMaxCount: MAX_EVENTS, checkpointValueMaxBytes: 1_000_000 },
    })
  })
  const thread = async () => (await server.client.threads.create()).thread_id
  const get = async (path: string, from?: string): Promise<EventReader> =>
    readEvents(await server.request('GET', path, undefined, from === undefined ? {} : { 'last-event-id': from }))

  test.each([
    ['bytes', { count: 300, size: 1_000 }, MAX_BYTES],
    ['events', { count: 1_000, size: 1 }, MAX_EVENTS],
  ])(
    'a run that streams too many %s goes on to its end; its stream says where it was cut',
    async (limit, input, max) => {
      const threadId = await thread()
      const seen: { id?: string | undefined; event: string; data: unknown }[] = []
      for await (const event of server.client.runs.stream(threadId, 'flood', {
        input,
        streamMode: ['custom', 'values'],
      }))
        seen.push(event)
      const names = seen.map(({ event }) => event)
      expect(names[0]).toBe('metadata')
      // Nothing between the word and the end: not the values either.
      expect(names.slice(-2)).toEqual(['truncated', 'end'])
      expect(names.filter((name) => name === 'truncated')).toHaveLength(1)
      expect(seen.at(-2)?.data).toMatchObject({ limit, max, message: expect.stringContaining('the run goes on') })
      expect(names.length).toBeLessThan(MAX_EVENTS + 10)
      const [run] = await server.client.runs.list(threadId)
      expect(run?.status).toBe('success')
      expect((await server.client.threads.getState<{ count: number }>(threadId)).values.count).toBe(-1)
      expect(server.seen).toContainEqual({
        kind: 'run_events_capped',
        run_id: run?.run_id,
        thread_id: threadId,
        attempt: 1,
        limit,
        max,
      })
      // Joiners, whatever modes they want, those who resume behind the last event they saw, and who follows the thread.
      const path = `/threads/${threadId}/runs/${run?.run_id}/stream`
      for (const reader of [await get(`${path}?stream_mode=updates`, '-1'), await get(path, seen.at(-3)?.id as string)])
        expect(named(await reader.rest()).slice(-2)).toMatchObject([
          ['truncated', { limit }],
          ['end', null],
        ])
      const whole = await get(`/threads/${threadId}/stream`, '-')
      expect(named(await whole.upTo(({ event }) => event === 'run_done')).at(-2)).toMatchObject([
        'truncated',
        { limit },
      ])
      await whole.leave()
    },
  )

  test('a value that is too large for a checkpoint ends the run with an error that names it; what was before stays', async () => {
    const threadId = await thread()
    const answer = await server.client.runs.wait(threadId, 'heap', { input: { size: 1_500_000 }, raiseError: false })
    const message = expect.stringMatching(/the value of channel "heap" takes 1\.4 MiB, more than the 1 MiB/)
    expect(answer).toEqual({ __error__: { error: 'StorageError', message } })
    expect((await server.client.runs.list(threadId))[0]?.status).toBe('error')
    expect(await server.client.threads.get(threadId)).toMatchObject({ status: 'error' })
    const state = await server.client.threads.getState<Record<string, unknown>>(threadId)
    expect(state.values).toEqual({ size: 1_500_000, count: 1 })
    expect(await server.client.runs.wait(threadId, 'steps', { input: { log: ['in'] } })).toMatchObject({
      log: ['in', 'first', 'second', 'third'],
    })
  })

  test('a run whose input is too large says which run it is before it says so', async () => {
    const threadId = await thread()
    const body = { assistant_id: 'steps', input: { log: ['x'.repeat(1_500_000)] }, stream_mode: 'updates' }
    const stream = readEvents(await server.request('POST', `/threads/${threadId}/runs/stream`, body))
    const seen = named(await stream.rest())
    expect(seen.map(([event]) => event)).toEqual(['metadata', 'error', 'end'])
    const [run] = await server.client.runs.list(threadId)
    expect(seen[0]?.[1]).toEqual({ run_id: run?.run_id, attempt: 1 })
  })

  test('a run that is cancelled while it waits ends its streams and waits at once', async () => {
    for (const action of ['interrupt', 'rollback'] as const) {
      const [threadId, gate] = [await thread(), v7()]
      await server.client.runs.create(threadId, 'steps', { input: { log: [], hold: { first: gate } } })
      const waiting = await server.client.runs.create(threadId, 'steps', { input: { log: [] } })
      const path = `/threads/${threadId}/runs/${waiting.run_id}`
      const joined = [await get(`${path}/stream`), await get(`${path}/stream`, '-1')]
      const began = performance.now()
      await server.client.runs.cancel(threadId, waiting.run_id, false, action)
      for (const reader of joined) expect(named(await reader.rest())).toEqual([['end', null]])
      expect(performance.now() - began).toBeLessThan(900)
      made.gates.open(gate)
    }
  })

  test('the stream of a thread ends when the thread is deleted', async () => {
    const threadId = await thread()
    await server.client.runs.wait(threadId, 'steps', { input: { log: [] } })
    const stream = await get(`/threads/${threadId}/stream`, '-')
    await stream.upTo(({ event }) => event === 'run_done')
    await server.client.threads.delete(threadId)
    expect(await stream.rest()).toEqual([])
  })

  test('in the stream of a thread no id comes twice, whatever is asked for', async () => {
    const threadId = await thread()
    const query = '?stream_modes=run_modes&stream_modes=state_update&stream_modes=lifecycle'
    const stream = await get(`/threads/${threadId}/stream${query}`)
    for (let i = 0; i < 2; i++) await server.client.runs.wait(threadId, 'steps', { input: { log: [] } })
    const seen = [
      ...(await stream.upTo(({ event }) => event === 'run_done')),
      ...(await stream.upTo(({ event }) => event === 'run_done')),
    ]
    await stream.leave()
    expect(seen.filter(({ event }) => event === 'state_update')).toHaveLength(2)
    const ids = idsOf(seen.filter(({ id }) => id !== undefined))
    expect(ids).toEqual([...new Set(ids)].toSorted((a, b) => a - b))
    expect(seen.at(-2)).toMatchObject({ id: undefined, event: 'state_update' })
  })
})

eachStack(
  (stack) => {
    test('who resumes where nothing is kept any more is told of the gap, and then what there is', async () => {
      const { graphs, gates } = createRunGraphs()
      const server = await stack.heddle({ graphs })
      const settings = stack.database()
      const db = await openDatabase(settings, () => {})
      try {
        const { thread_id: threadId } = await server.client.threads.create()
        const ids: string[][] = []
        const runIds: string[] = []
        for (let i = 0; i < 2; i++) {
          // What comes before the gate and what comes behind it are rows of their own.
          const gate = v7()
          const answer = await server.request('POST', `/threads/${threadId}/runs/stream`, {
            assistant_id: 'steps',
            input: { log: [], hold: { second: gate } },
          })
          const reader = readEvents(answer)
          await gates.reached(gate)
          const before = await reader.next()
          gates.open(gate)
          const events = [before as SeenEvent, ...(await reader.rest())]
          ids.push(events.map(({ id }) => id as string))
          runIds.push(events[0]?.data.run_id)
        }
        const [first = [], second = []] = ids
        await db.rows(sql`update runs set ended_at = ended_at - interval '2 hours' where run_id = ${runIds[0]}`)
        await db.rows(sql`update events set created_at = created_at - interval '2 hours' where run_id = ${runIds[0]}`)
        let gone = 0
        await until('it is pruned, in batches', async () => {
          const some = await events.prune(db, 3_600, 1)
          gone += some
          return some === 0
        })
        expect(gone).toBeGreaterThan(1)
        const join = async (runId: string | undefined, from: string) => {
          const path = `/threads/${threadId}/runs/${runId}/stream`
          const answer = await server.request('GET', path, undefined, { 'last-event-id': from })
          return readEvents(answer).rest()
        }
        const gap = { id: undefined, event: 'gap', data: { message: expect.stringContaining('kept no longer') } }
        const end = { id: undefined, event: 'end', data: null }
        expect(await join(runIds[0], first[1] as string)).toEqual([gap, end])
        expect(await join(runIds[0], '-1')).toEqual([gap, end])
        expect(idsOf(await join(runIds[1], second[0] as string))).toEqual(second.slice(1).map(Number))
        expect(idsOf(await join(runIds[1], '-1'))).toEqual(second.map(Number))
        const thread = readEvents(
          await server.request('GET', `/threads/${threadId}/stream`, undefined, {
            'last-event-id': first[1] as string,
          }),
        )
        expect(await thread.next()).toEqual(gap)
        expect((await thread.next())?.id).toBe(second[0])
        await thread.leave()
        // The official client passes it on, and comes to the end.
        const names: string[] = []
        for await (const { event } of server.client.runs.joinStream(threadId, runIds[0] as string, {
          lastEventId: first[1] as string,
        }))
          names.push(event)
        expect(names).toEqual(['gap', 'end'])
      } finally {
        await db.close()
      }
    })

    test('a thousand readers that resume together cost a statement each, and a few for the log', async () => {
      const { graphs } = createRunGraphs()
      const server = await stack.heddle({ graphs })
      const other = await stack.heddle({ graphs, role: 'api' })
      const { thread_id: threadId } = await server.client.threads.create()
      const all = await readEvents(
        await server.request('POST', `/threads/${threadId}/runs/stream`, { assistant_id: 'steps', input: { log: [] } }),
      ).rest()
      const path = `/threads/${threadId}/runs/${all[0]?.data.run_id}/stream`
      const settings = stack.database()
      const db = await openDatabase(settings, () => {})
      const calls = async () => {
        const [row] = await db.rows<{ n: number }>(
          sql`select xact_commit + xact_rollback as n from pg_stat_database where datname = current_database()`,
        )
        return row?.n as number
      }
      try {
        const before = await calls()
        const readers = await Promise.all(
          Array.from({ length: 1_000 }, async (_, i) => {
            const from = all[i % (all.length - 1)]?.id as string
            const answer = await other.request('GET', path, undefined, { 'last-event-id': from })
            return [from, await readEvents(answer).rest()] as const
          }),
        )
        for (const [from, seen] of readers) expect(idsOf(seen)).toEqual(idsOf(all).filter((id) => id > Number(from)))
        await until('Postgres has counted', async () => (await calls()) - before >= 1_000)
        // What the servers ask by themselves meanwhile is in it too.
        expect((await calls()) - before).toBeLessThan(1_700)
      } finally {
        await db.close()
      }
    }, 60_000)
  },
  { only: ['postgres+redis', 'postgres'] },
)
