// The thread protocol over WebSockets, frame by frame: the handshake, subscriptions, and how connections end.

import { randomUUID } from 'node:crypto'
import { beforeAll, expect, test } from 'vitest'
import { ALL_CHANNELS, isEnd, openThreadSocket, readThreadEvents } from '../support/thread-events.ts'
import { eachRunServer } from './run-server.ts'

eachRunServer((server) => {
  let url = ''
  beforeAll(async () => {
    url = (await server.server.heddle.listen()).url
  })
  const run = async (threadId: string, body: Record<string, unknown> = { assistant_id: 'steps', input: {} }) =>
    (await server.stream(threadId, { stream_mode: ['values', 'updates'], ...body })).rest()
  const overSse = async (threadId: string, body: Record<string, unknown> = {}) => {
    const answer = await server.request('POST', `/threads/${threadId}/stream/events`, {
      channels: ALL_CHANNELS,
      ...body,
    })
    const reader = readThreadEvents(answer)
    const seen = await reader.upTo(isEnd)
    await reader.leave()
    return seen
  }

  test('a subscription is answered, then hears the log, then what happens: the same as over server-sent events', async () => {
    const threadId = await server.thread()
    await run(threadId)
    const socket = await openThreadSocket(url, threadId)
    const answer = await socket.send('subscription.subscribe', { channels: ALL_CHANNELS })
    expect(answer).toMatchObject({ type: 'success', result: { subscription_id: expect.any(String) } })
    const first = await socket.upTo(isEnd)
    expect(first).toEqual(await overSse(threadId))
    expect(socket.frames[0]).toEqual(answer)
    await run(threadId)
    const second = await socket.upTo(isEnd)
    expect(second).toEqual(await overSse(threadId, { since: first.at(-1)?.seq }))
    expect([...first, ...second].map(({ seq }) => seq)).toEqual(
      [...new Set([...first, ...second].map(({ seq }) => seq))].toSorted((a, b) => a - b),
    )
    await socket.leave()
  })

  test('a thread that is not there yet is heard once it is', async () => {
    const threadId = randomUUID()
    const socket = await openThreadSocket(url, threadId)
    await socket.send('subscription.subscribe', { channels: ['lifecycle'] })
    await run(threadId, { assistant_id: 'steps', input: {}, if_not_exists: 'create' })
    expect((await socket.upTo(isEnd)).map(({ params }) => params.data.event)).toEqual(['running', 'completed'])
    await socket.leave()
  })

  test('a subscription that is ended hears nothing more, and one that is named again goes on where it is told to', async () => {
    const threadId = await server.thread()
    await run(threadId)
    const socket = await openThreadSocket(url, threadId)
    const { result } = await socket.send('subscription.subscribe', { channels: ['updates', 'lifecycle'] })
    const first = await socket.upTo(isEnd)
    expect(await socket.send('subscription.unsubscribe', result)).toMatchObject({ type: 'success', result: {} })
    expect(await socket.send('subscription.unsubscribe', result)).toMatchObject({ error: 'no_such_subscription' })
    await run(threadId)
    await socket.leave()
    const again = await openThreadSocket(url, threadId)
    const run_id = (await server.client.runs.list(threadId))[0]?.run_id
    const subscriptions = [result?.subscription_id]
    const last_event_id = first[1]?.event_id
    const restored = await again.send('subscription.reconnect', { run_id, last_event_id, subscriptions })
    expect(restored).toMatchObject({ type: 'success', result: { restored: true } })
    expect(await again.upTo(isEnd)).toEqual(first.slice(2))
    await again.upTo(isEnd)
    await again.leave()
  })

  test('what is no command is answered as such, and the connection goes on', async () => {
    const threadId = await server.thread()
    const socket = await openThreadSocket(url, threadId)
    socket.sendText('{')
    expect(await socket.answer()).toMatchObject({ type: 'error', id: null, error: 'invalid_argument' })
    for (const params of [{}, { channels: [] }, { channels: ['nothing'] }, null])
      expect(await socket.send('subscription.subscribe', params)).toMatchObject({ error: 'invalid_argument' })
    expect(await socket.send('no.such', {})).toMatchObject({ error: 'unknown_command' })
    expect(await socket.send('subscription.subscribe', { channels: ['lifecycle'] })).toMatchObject({ type: 'success' })
    await run(threadId)
    await socket.upTo(isEnd)
    await socket.leave()
  })

  test('a connection is closed with what an answer would have said, and without an upgrade there is none', async () => {
    const bad = await openThreadSocket(url, 'x')
    expect((await bad.closed).code).toBe(4422)
    const threadId = await server.thread()
    const socket = await openThreadSocket(url, threadId)
    await socket.send('subscription.subscribe', { channels: ['lifecycle'] })
    await server.client.threads.delete(threadId)
    expect((await socket.closed).code).toBe(4404)
    const plain = await server.request('GET', `/threads/${threadId}/stream/events`)
    expect([plain.status, plain.headers.get('upgrade')]).toEqual([426, 'websocket'])
  })
})
