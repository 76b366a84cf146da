// A server that is told to stop: what runs on it comes to its end with its clients, what does not goes on elsewhere at once, and
// nobody is told of an end that is none.

import { Annotation, START, StateGraph } from '@langchain/langgraph'
import { v7 } from 'uuid'
import { expect, test, vi } from 'vitest'
import { named } from '../api/run-server.ts'
import { readEvents } from '../support/events.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { eachStack, type Stack } from '../support/stacks.ts'
import { until } from '../support/until.ts'

// Each test starts its own servers, the embedded one too: that takes its time on a busy machine.
vi.setConfig({ testTimeout: 90_000 })

const updates = { assistant_id: 'steps', stream_mode: 'updates' }

/** A server with a run on it that waits at a gate in `second`, and a stream of it. */
async function stopping(stack: Stack, config: { shutdownGraceSeconds: number }) {
  const made = createRunGraphs()
  const server = await stack.heddle({ graphs: made.graphs, config })
  const { thread_id: threadId } = await server.client.threads.create()
  const gate = v7()
  const body = { ...updates, input: { log: ['in'], hold: { second: gate } } }
  const stream = readEvents(await server.request('POST', `/threads/${threadId}/runs/stream`, body))
  const begun = await stream.upTo(({ event }) => event === 'updates')
  await made.gates.reached(gate)
  const runId = begun[0]?.data.run_id as string
  return { ...made, server, threadId, gate, stream, begun, runId, path: `/threads/${threadId}/runs/${runId}` }
}
const ends = [
  ['updates', { second: { log: ['second'] } }],
  ['updates', { third: { log: ['third'] } }],
  ['end', null],
]

eachStack((stack) => {
  test('while it stops, runs end with those who follow and wait; new runs are refused, what there is can be read and cancelled', async () => {
    const { server, threadId, gates, gate, stream, path, runId } = await stopping(stack, { shutdownGraceSeconds: 60 })
    const waiting = server.client.runs.join(threadId, runId)
    const thread = readEvents(await server.request('GET', `/threads/${threadId}/stream`))
    const second = await server.client.threads.create()
    const held = await server.client.runs.create(second.thread_id, 'steps', {
      input: { log: [], hold: { first: v7() } },
    })
    const closed = server.heddle.close()

    const ok = await server.request('GET', '/ok')
    expect([ok.status, ok.headers.get('connection')]).toEqual([503, 'close'])
    const refused = await server.request('POST', `/threads/${threadId}/runs`, { assistant_id: 'steps' })
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await refused.json()).toMatchObject({ code: 'shutting_down' })
    await expect(thread.rest()).rejects.toThrow(/Last-Event-ID/)
    expect((await server.request('GET', `/threads/${threadId}/stream`)).status).toBe(503)
    expect((await server.client.runs.get(threadId, runId)).status).toBe('running')
    const joined = readEvents(await server.request('GET', `${path}/stream`, undefined, { 'last-event-id': '-1' }))
    await server.client.runs.cancel(second.thread_id, held.run_id, true)

    gates.open(gate)
    expect(named(await stream.rest())).toEqual(ends)
    expect(named(await joined.rest()).slice(-3)).toEqual(ends)
    expect(await waiting).toMatchObject({ log: ['in', 'first', 'second', 'third'] })
    await closed
  })

  test('told to hurry, it waits for nothing', async () => {
    const { server, stream } = await stopping(stack, { shutdownGraceSeconds: 60 })
    const began = performance.now()
    const closed = server.heddle.close()
    await server.heddle.close({ now: true })
    await closed
    expect(performance.now() - began).toBeLessThan(3_000)
    await expect(stream.rest()).rejects.toThrow(/Last-Event-ID/)
  })
})

// Ignores its signal: nothing can stop it but the end of its process.
const released = new Map<string, () => void>()
const deaf = new StateGraph(Annotation.Root({ key: Annotation<string>(), by: Annotation<string>() }))
  .addNode('sit', async ({ key }) => {
    if (!released.has(key)) await new Promise<void>((resolve) => released.set(key, resolve))
    return { by: 'second' }
  })
  .addEdge(START, 'sit')
  .compile()

eachStack(
  (stack) => {
    // The first one: servers of the others share this database, and have not its graph.
    test('a graph that ignores its signal is no reason to wait: it is fenced off, and its run goes on elsewhere', async () => {
      const server = await stack.heddle({ graphs: { deaf }, config: { shutdownGraceSeconds: 0.2 } })
      const { thread_id: threadId } = await server.client.threads.create()
      const key = v7()
      const run = await server.client.runs.create(threadId, 'deaf', { input: { key } })
      await until('it sits', () => released.has(key))
      const other = await stack.heddle({ graphs: { deaf } })
      const began = performance.now()
      const closed = server.close()
      const values = await other.client.runs.join(threadId, run.run_id)
      expect(performance.now() - began).toBeLessThan(2_000)
      expect(values).toEqual({ key, by: 'second' })
      released.get(key)?.()
      await closed
      await other.close()
    })

    test('when the grace is over, the run goes on elsewhere within a second, uncharged; its clients come along by id', async () => {
      const { server, threadId, gates, gate, stream, begun, graphs, path, runId } = await stopping(stack, {
        shutdownGraceSeconds: 0.3,
      })
      const other = await stack.heddle({ graphs })
      const waiting = server.request('GET', `${path}/join`).then((answer) => answer.text())
      const lost = expect(waiting).rejects.toThrow(/shuts down/)
      const closed = server.heddle.close()
      await expect(stream.rest()).rejects.toThrow(/Last-Event-ID/)
      const over = performance.now()
      await gates.reached(gate, 2)
      expect(performance.now() - over).toBeLessThan(1_000)
      await lost
      await closed
      const from = { 'last-event-id': begun.at(-1)?.id as string }
      const resumed = readEvents(await other.request('GET', `${path}/stream?stream_mode=updates`, undefined, from))
      gates.open(gate)
      expect(named(await resumed.rest())).toEqual([['metadata', { run_id: runId, attempt: 1 }], ...ends])
      expect(await other.client.runs.get(threadId, runId)).toMatchObject({ status: 'success', attempt: 1 })
      await other.close()
    })

    test('streams are not cut before the grace is over, however quiet they are', async () => {
      const made = createRunGraphs()
      const server = await stack.heddle({ graphs: made.graphs, config: { shutdownGraceSeconds: 60 } })
      const { url } = await server.heddle.listen()
      const { thread_id: threadId } = await server.client.threads.create()
      const gate = v7()
      const input = { log: ['in'], hold: { second: gate } }
      const post = (kind: string) =>
        fetch(`${url}/threads/${threadId}/runs/${kind}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ ...updates, input }),
        })
      const streamed = await post('stream')
      await made.gates.reached(gate)
      const waited = await fetch(
        `${url}/threads/${threadId}/runs/${(await server.client.runs.list(threadId))[0]?.run_id}/join`,
      )
      const decoder = new TextDecoderStream() as unknown as ReadableWritablePair<string, Uint8Array>
      const reader = (streamed.body as ReadableStream<Uint8Array>).pipeThrough(decoder).getReader()
      const closed = server.heddle.close()
      let text = ''
      // A heartbeat comes every five seconds: the second one is later than anything was cut before.
      while ((text.match(/: heartbeat/g) ?? []).length < 2) {
        const { value, done } = await reader.read()
        expect(done).toBe(false)
        text += value
      }
      made.gates.open(gate)
      for (let next = await reader.read(); !next.done; next = await reader.read()) text += next.value
      expect(text).toContain('event: end')
      expect(await waited.json()).toMatchObject({ log: ['in', 'first', 'second', 'third'] })
      await closed
    })
  },
  { only: ['postgres+redis', 'postgres'] },
)
