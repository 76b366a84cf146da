// Commands over a WebSocket: the same dispatcher answers, on the connection that also brings the events.

import { v7 } from 'uuid'
import { beforeAll, expect, test } from 'vitest'
import { ALL_CHANNELS, isEnd, openThreadSocket, type ThreadSocket } from '../support/thread-events.ts'
import { until } from '../support/until.ts'
import { eachCommandServer, newThread } from './command-server.ts'

eachCommandServer((on) => {
  let url = ''
  beforeAll(async () => {
    url = (await on.server.heddle.listen()).url
  })
  const opened = async (threadId: string, use: (socket: ThreadSocket) => Promise<void>) => {
    const socket = await openThreadSocket(url, threadId)
    await use(socket)
    await socket.leave()
  }

  test('a conversation over one connection: a run, its question, the answer', async () => {
    const threadId = newThread()
    await opened(threadId, async (socket) => {
      await socket.send('subscription.subscribe', { channels: ALL_CHANNELS })
      const started = await socket.send('run.start', { assistant_id: 'approve', input: { topic: 'cake' } })
      expect(started).toMatchObject({
        type: 'success',
        result: { run_id: expect.any(String) },
        meta: { thread_id: threadId, applied_through_seq: 0 },
      })
      const asked = await socket.upTo(isEnd)
      const question = asked.find(({ method }) => method === 'input.requested')?.params.data
      expect(question).toMatchObject({ interrupt_id: expect.any(String), payload: { approve: 'cake' } })
      const answered = await socket.send('input.respond', {
        namespace: [],
        interrupt_id: question.interrupt_id,
        response: 'yes',
      })
      expect(answered).toMatchObject({ type: 'success', meta: { applied_through_seq: expect.any(Number) } })
      const through = (answered as unknown as { meta: { applied_through_seq: number } }).meta.applied_through_seq
      const rest = await socket.upTo(isEnd)
      expect(asked.every(({ seq }) => seq <= through)).toBe(true)
      expect(rest.every(({ seq }) => seq > through)).toBe(true)
      expect(rest.find(({ method }) => method === 'input.answered')?.params.data).toEqual({
        interrupt_ids: [question.interrupt_id],
      })
      expect(rest.at(-1)?.params.data).toMatchObject({ event: 'completed' })
      expect((await socket.send('state.get', { namespace: [], keys: ['log'] })).result?.values).toEqual({
        log: ['asked cake: "yes"', 'acted'],
      })
    })
  })

  test('a command is answered as over HTTP, whatever it is', async () => {
    const threadId = newThread()
    await on.run(threadId, 'approve', { topic: 'cake' })
    await opened(threadId, async (socket) => {
      for (const [method, params] of [
        ['state.get', { namespace: [] }],
        ['state.get', { namespace: ['nowhere'] }],
        ['state.listCheckpoints', {}],
        ['agent.getTree', {}],
        ['run.start', { assistant_id: 'nobody' }],
        ['input.respond', { interrupt_id: '0', response: 1 }],
        ['state.fork', { checkpoint_id: v7() }],
        ['run.stop', {}],
      ] as const) {
        const { id: _, ...overSocket } = await socket.send(method, params)
        const { id: __, ...overHttp } = (await on.send(threadId, method, params)).body
        expect(overSocket).toEqual(overHttp)
      }
    })
  })

  test('frames that are no commands are refused, one by one, and the connection stays', async () => {
    const threadId = newThread()
    await opened(threadId, async (socket) => {
      const refused = async (frame: string, id: number | null, message: unknown) => {
        const before = socket.frames.length
        socket.sendText(frame)
        expect(await until('an answer', () => socket.frames[before])).toEqual({
          type: 'error',
          id,
          error: 'invalid_argument',
          message,
        })
      }
      await refused('{', null, expect.stringMatching(/JSON/))
      await refused('[]', null, 'command: must be an object')
      await refused('{"id":9}', 9, 'command.method: is required')
      await refused('{"id":9,"method":"state.get","params":{"a":"\\u0000"}}', null, expect.stringMatching(/NUL/))
      await refused('{"id":9,"method":"state.get","params":{"__proto__":{}}}', null, expect.stringMatching(/__proto__/))
      await refused('{"id":9,"method":"subscription.subscribe"}', 9, 'params.channels: is required')
      expect(await socket.send('subscription.unsubscribe', { subscription_id: 'x' })).toMatchObject({
        type: 'error',
        error: 'no_such_subscription',
      })
      expect(await socket.send('subscription.subscribe', { channels: ['values'] })).toMatchObject({ type: 'success' })
    })
  })

  test('a connection that was lost is taken up by another: subscriptions go on after the last event', async () => {
    const threadId = newThread()
    let name = ''
    let last = ''
    await opened(threadId, async (socket) => {
      name = String((await socket.send('subscription.subscribe', { channels: ['values'] })).result?.subscription_id)
      await socket.send('run.start', { assistant_id: 'steps', input: { log: ['a'] } })
      const seen = await socket.upTo(({ params }) => params.data.log?.length === 2)
      last = seen.at(-1)?.event_id ?? ''
    })
    const [run] = await on.client.runs.list(threadId)
    await on.ended(threadId, run?.run_id ?? '')
    await opened(threadId, async (socket) => {
      const again = { run_id: run?.run_id, last_event_id: last, subscriptions: [name] }
      expect(await socket.send('subscription.reconnect', again)).toMatchObject({
        type: 'success',
        result: {
          restored: true,
          missed_events: expect.any(Number),
          current_namespaces: [{ namespace: [], status: 'completed' }],
        },
      })
      const rest = await socket.upTo(({ params }) => params.data.log?.length === 4)
      expect(rest.map(({ params }) => params.data.log.length)).toEqual([3, 4])
      expect(await socket.send('subscription.reconnect', { ...again, run_id: v7() })).toMatchObject({
        type: 'error',
        error: 'no_such_run',
      })
      expect(await socket.send('subscription.reconnect', { ...again, subscriptions: ['1.x'] })).toMatchObject({
        type: 'error',
        error: 'no_such_subscription',
      })
    })
  })
})
