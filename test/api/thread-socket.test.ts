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
})
