// The stream of a thread: every run on it, one after the other, in three modes; it does not end by itself.

import { expect, test } from 'vitest'
import { type EventReader, readEvents, type SeenEvent } from '../support/events.ts'
import { eachRunServer, idsOf, named } from './run-server.ts'

eachRunServer((server) => {
  const follow = async (threadId: string, query = '', from?: string): Promise<EventReader> => {
    const headers: Record<string, string> = from === undefined ? {} : { 'last-event-id': from }
    return readEvents(await server.request('GET', `/threads/${threadId}/stream${query}`, undefined, headers))
  }
  const run = async (threadId: string, input: Record<string, unknown> = {}) =>
    (await (
      await server.stream(threadId, { assistant_id: 'steps', input, stream_mode: 'updates' })
    ).rest()) as SeenEvent[]
  /** Reads up to the end of the `count`th run. */
  const runs = async (reader: EventReader, count: number, last = 'run_done') => {
    const seen: SeenEvent[] = []
    for (let i = 0; i < count; i++) seen.push(...(await reader.upTo(({ event }) => event === last)))
    return seen
  }

  test('by default everything of every run comes, with a word at the end of each', async () => {
    const threadId = await server.thread()
    const stream = await follow(threadId)
    const first = await run(threadId)
    const second = await run(threadId, { fail: { first: 'error' } })
    const seen = await runs(stream, 2)
    await stream.leave()
    const done = (events: SeenEvent[], status: string) => ({
      id: events.at(-1)?.id,
      event: 'run_done',
      data: { run_id: events[0]?.data.run_id, status },
    })
    expect(seen).toEqual([...first.slice(0, -1), done(first, 'success'), ...second.slice(0, -1), done(second, 'error')])
    expect(named(second)).toContainEqual(['error', { error: 'TypeError', message: 'the node broke' }])
  })

  test('lifecycle: only that runs start, fail and end', async () => {
    const threadId = await server.thread()
    const stream = await follow(threadId, '?stream_modes=lifecycle')
    const first = (await run(threadId))[0]?.data
    const second = (await run(threadId, { fail: { first: 'error' } }))[0]?.data
    expect(named(await runs(stream, 2))).toEqual([
      ['metadata', first],
      ['run_done', { run_id: first.run_id, status: 'success' }],
      ['metadata', second],
      ['error', { error: 'TypeError', message: 'the node broke' }],
      ['run_done', { run_id: second.run_id, status: 'error' }],
    ])
    await stream.leave()
  })

  test('state_update: only that the state may have changed', async () => {
    const threadId = await server.thread()
    const stream = await follow(threadId, '?stream_mode=state_update')
    const ids = [(await run(threadId))[0]?.data.run_id, (await run(threadId))[0]?.data.run_id]
    expect(named(await runs(stream, 2, 'state_update'))).toEqual(
      ids.map((run_id) => ['state_update', { run_id, status: 'success' }]),
    )
    await stream.leave()
  })

  test('without an id only what is new comes, with one what follows it, with - everything', async () => {
    const threadId = await server.thread()
    const first = await run(threadId)
    const all = await follow(threadId, '', '-')
    const new_ = await follow(threadId)
    const resumed = await follow(threadId, '', first[1]?.id as string)
    const second = await run(threadId)
    expect(idsOf(await runs(all, 2))).toEqual(idsOf([...first, ...second]))
    expect(idsOf(await runs(new_, 1))).toEqual(idsOf(second))
    expect(idsOf(await runs(resumed, 2))).toEqual(idsOf([...first.slice(2), ...second]))
    for (const reader of [all, new_, resumed]) await reader.leave()
  })

  test('the official client follows a thread', async () => {
    const threadId = await server.thread()
    const stop = new AbortController()
    const events = server.client.threads.joinStream(threadId, {
      lastEventId: '-',
      streamMode: 'lifecycle',
      signal: stop.signal,
    })
    const first = await run(threadId)
    const seen: unknown[] = []
    for await (const event of events) {
      seen.push(event.event)
      if (event.event === ('run_done' as string)) break
    }
    stop.abort()
    expect(seen).toEqual(['metadata', 'run_done'])
    expect(first).toHaveLength(5)
  })

  test('a thread that does not exist has no stream, and a mode that does not exist is refused', async () => {
    const threadId = await server.thread()
    expect((await server.request('GET', `/threads/${crypto.randomUUID()}/stream`)).status).toBe(404)
    expect((await server.request('GET', `/threads/${threadId}/stream?stream_mode=values`)).status).toBe(422)
  })
})
