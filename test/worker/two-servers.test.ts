// Two servers on one database: one takes the requests and runs nothing, the other runs. What is asked of the first must
// come out as if there were only one.

import { v7 } from 'uuid'
import { beforeAll, expect, test } from 'vitest'
import { failure } from '../api/nouns.ts'
import { named } from '../api/run-server.ts'
import { readEvents } from '../support/events.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { eachStack, type TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'

eachStack(
  (stack) => {
    const { graphs, gates, ran } = createRunGraphs()
    let api: TestServer
    let worker: TestServer
    beforeAll(async () => {
      api = await stack.heddle({ graphs, role: 'api' })
      worker = await stack.heddle({ graphs, role: 'worker' })
    })
    const thread = async () => (await api.client.threads.create()).thread_id
    const values = { log: ['in', 'first', 'second', 'third'] }
    const stream = async (threadId: string, body: object) =>
      readEvents(await api.request('POST', `/threads/${threadId}/runs/stream`, { assistant_id: 'steps', ...body }))

    test('a run that is made on one runs on the other, and its maker is answered', async () => {
      const threadId = await thread()
      expect(await api.client.runs.wait(threadId, 'steps', { input: { log: ['in'] } })).toEqual(values)
      const [run] = await api.client.runs.list(threadId)
      expect(worker.seen.map((seen) => seen.kind === 'run_settled' && seen.run_id)).toContain(run?.run_id)
      expect(api.seen.filter(({ kind }) => kind === 'run_claimed')).toEqual([])
      expect(await worker.client.threads.get(threadId)).toEqual(await api.client.threads.get(threadId))
      expect(await api.client.runs.wait(null, 'steps', { input: { log: ['in'] } })).toEqual(values)
    })

    test('its events arrive live, in order and whole', async () => {
      const [threadId, gate] = [await thread(), v7()]
      const events = await stream(threadId, { input: { log: ['in'], hold: { second: gate } }, stream_mode: 'updates' })
      const begun = await events.upTo(({ event }) => event === 'updates')
      gates.open(gate)
      const all = [...begun, ...(await events.rest())]
      expect(named(all)).toEqual([
        ['metadata', { run_id: expect.any(String), attempt: 1 }],
        ['updates', { first: { log: ['first'] } }],
        ['updates', { second: { log: ['second'] } }],
        ['updates', { third: { log: ['third'] } }],
        ['end', null],
      ])
      const path = `/threads/${threadId}/runs/${all[0]?.data.run_id}/stream`
      for (const server of [api, worker]) {
        const again = await server.request('GET', path, undefined, { 'last-event-id': '-1' })
        expect(await readEvents(again).rest()).toEqual(all)
      }
    })

    test('large events arrive too, whatever a message may hold', async () => {
      const text = 'x'.repeat(100_000)
      const events = named(await (await stream(await thread(), { input: { log: [text] } })).rest())
      expect(
        events.filter(([name]) => name === 'values').map(([, data]) => (data as { log: string[] }).log.length),
      ).toEqual([1, 2, 3, 4])
      expect(events.at(1)).toEqual(['values', { log: [text] }])
    })

    test('joiners on both get everything', async () => {
      const [threadId, gate] = [await thread(), v7()]
      const run = await api.client.runs.create(threadId, 'steps', { input: { log: ['in'], hold: { third: gate } } })
      const path = `/threads/${threadId}/runs/${run.run_id}/stream`
      const joined = await Promise.all(
        [api, worker, api, worker].map(async (server) =>
          readEvents(await server.request('GET', path, undefined, { 'last-event-id': '-1' })),
        ),
      )
      const waited = [api, worker].map((server) => server.client.runs.join(threadId, run.run_id))
      await gates.reached(gate)
      gates.open(gate)
      const [first, ...others] = await Promise.all(joined.map((reader) => reader.rest()))
      expect(named(first ?? []).map(([name]) => name)).toEqual([
        'metadata',
        'values',
        'values',
        'values',
        'values',
        'end',
      ])
      for (const other of others) expect(other).toEqual(first)
      for (const answer of await Promise.all(waited)) expect(answer).toEqual({ ...values, hold: { third: gate } })
    })

    test('a run is cancelled from the other server, told of, and answered when it is over', async () => {
      for (const action of ['interrupt', 'rollback'] as const) {
        const [threadId, gate] = [await thread(), v7()]
        const run = await api.client.runs.create(threadId, 'steps', { input: { log: ['in'], hold: { second: gate } } })
        const events = await api.request('GET', `/threads/${threadId}/runs/${run.run_id}/stream`, undefined, {
          'last-event-id': '-1',
        })
        await gates.reached(gate)
        const asked = performance.now()
        await api.client.runs.cancel(threadId, run.run_id, true, action)
        // The message took it there: the next renewal of the lease would have been later.
        expect(performance.now() - asked).toBeLessThan(2_000)
        const names = named(await readEvents(events).rest()).map(([name]) => name)
        expect([names[0], names.at(-1)]).toEqual(['metadata', 'end'])
        if (action === 'interrupt') expect((await api.client.runs.get(threadId, run.run_id)).status).toBe('interrupted')
        else expect(await failure(api.client.runs.get(threadId, run.run_id))).toMatchObject({ status: 404 })
      }
    })

    test('a thread is followed over runs that run elsewhere', async () => {
      const threadId = await thread()
      const follower = readEvents(await api.request('GET', `/threads/${threadId}/stream?stream_mode=lifecycle`))
      for (const server of [api, worker]) await server.client.runs.wait(threadId, 'steps', { input: { log: [] } })
      const seen = [
        await follower.upTo(({ event }) => event === 'run_done'),
        await follower.upTo(({ event }) => event === 'run_done'),
      ]
      expect(named(seen.flat()).map(([name]) => name)).toEqual(['metadata', 'run_done', 'metadata', 'run_done'])
      await follower.leave()
    })

    test('40 runs on 8 threads, made on both, run once each and in order', async () => {
      const threads = await Promise.all(Array.from({ length: 8 }, thread))
      const made = await Promise.all(
        Array.from({ length: 40 }, (_, i) =>
          (i % 2 ? api : worker).client.runs.create(threads[i % 8] as string, 'steps', { input: { log: [] } }),
        ),
      )
      await Promise.all(
        made.map(({ thread_id, run_id }, i) => (i % 2 ? worker : api).client.runs.join(thread_id, run_id)),
      )
      const nodes = ran.filter(({ run_id }) => made.some((run) => run.run_id === run_id))
      expect(nodes).toHaveLength(120)
      for (const threadId of threads) {
        const listed = (await api.client.runs.list(threadId)).toReversed().map(({ run_id }) => run_id)
        const order = nodes.filter(({ run_id }) => listed.includes(run_id)).map(({ run_id }) => run_id)
        expect(order).toEqual(listed.flatMap((id) => [id, id, id]))
      }
    })

    test('20 requests with one key on both make one run', async () => {
      const [threadId, key] = [await thread(), v7()]
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          (i % 2 ? api : worker).request(
            'POST',
            `/threads/${threadId}/runs`,
            { assistant_id: 'steps', input: { log: [] } },
            { 'idempotency-key': key },
          ),
        ),
      )
      const ids = await Promise.all(answers.map(async (answer) => ((await answer.json()) as { run_id: string }).run_id))
      expect(new Set(ids).size).toBe(1)
      await until('it has ended', () =>
        worker.seen.some((seen) => seen.kind === 'run_settled' && seen.run_id === ids[0]),
      )
    })
  },
  { only: ['postgres+redis', 'postgres'] },
)
