// The thread protocol's events over server-sent events, frame by frame: the order within a run, what is replayed, and how runs of
// v1 and of the protocol are seen by the readers of the other. On Postgres, what one server runs is read from another.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { readEvents } from '../support/events.ts'
import { ALL_CHANNELS, isEnd, readThreadEvents, type ThreadEvent, type ThreadReader } from '../support/thread-events.ts'
import { eachCommandServer, newThread } from './command-server.ts'

eachCommandServer((on) => {
  const open = async (threadId: string, body: Record<string, unknown> = {}, from = on.other): Promise<ThreadReader> =>
    readThreadEvents(
      await from.request('POST', `/threads/${threadId}/stream/events`, { channels: ALL_CHANNELS, ...body }),
    )
  /** The events of the thread so far, up to the end of `runs` runs. */
  const read = async (threadId: string, body: Record<string, unknown> = {}, runs = 1, from = on.other) => {
    const reader = await open(threadId, body, from)
    const seen: ThreadEvent[] = []
    for (let i = 0; i < runs; i++) seen.push(...(await reader.upTo(isEnd)))
    await reader.leave()
    return seen
  }
  const start = async (threadId: string, assistant_id: string, input: unknown, more: object = {}): Promise<string> => {
    const { run_id } = await on.does(threadId, 'run.start', { assistant_id, input, ...more })
    await on.ended(threadId, run_id)
    return run_id
  }
  const brief = ({ method, params: { namespace, data } }: ThreadEvent): string => {
    const at = namespace.map((segment) => segment.split(':')[0]).join('|')
    const what = method === 'tasks' ? ('result' in data ? 'result' : 'start') : (data.event ?? '')
    return [method, what, at].filter((word) => word !== '').join(' ')
  }
  const numbers = (events: readonly ThreadEvent[]) => events.map(({ seq }) => seq)

  test('a run begins and ends with how it stands, and has a checkpoint right before each of its values', async () => {
    const threadId = newThread()
    const runId = await start(threadId, 'nested', { log: [] })
    const events = await read(threadId)
    expect(events.map(brief)).toEqual([
      'lifecycle running',
      'checkpoints',
      'values',
      'tasks start',
      'custom',
      'updates',
      'tasks result',
      'checkpoints',
      'values',
      'tasks start',
      'lifecycle started inner',
      'checkpoints inner',
      'values inner',
      'tasks start inner',
      'custom inner',
      'updates inner',
      'tasks result inner',
      'checkpoints inner',
      'values inner',
      'updates',
      'tasks result',
      'lifecycle completed inner',
      'checkpoints',
      'values',
      'lifecycle completed',
    ])
    const [first, checkpoint] = events as [ThreadEvent, ThreadEvent]
    expect(first).toEqual({
      type: 'event',
      event_id: `synth:${runId}:${first.seq}`,
      seq: expect.any(Number),
      method: 'lifecycle',
      params: { namespace: [], timestamp: expect.any(Number), data: { event: 'running' } },
    })
    expect(events.at(-1)?.event_id).toBe(`synth:${runId}:${events.at(-1)?.seq}`)
    expect(checkpoint.params.data).toEqual({
      id: expect.any(String),
      step: 0,
      source: 'loop',
      parent_id: expect.any(String),
    })
    const { checkpoint: last } = await on.client.threads.getState(threadId)
    expect(
      events.filter(({ method, params }) => method === 'checkpoints' && params.namespace.length === 0).at(-1)?.params
        .data.id,
    ).toBe(last.checkpoint_id)
    expect(numbers(events)).toEqual([...new Set(numbers(events))].toSorted((a, b) => a - b))
    for (const { params } of events) expect(Math.abs(params.timestamp - Date.now())).toBeLessThan(600_000)
  })

  test('messages are told block by block, calls of tools too, and each channel comes alone where it is asked for', async () => {
    const threadId = newThread()
    await start(threadId, 'talk', { messages: [{ role: 'user', content: 'hi' }] })
    const all = await read(threadId)
    const messages = await read(threadId, { channels: ['messages', 'lifecycle'] })
    expect(messages).toEqual(all.filter(({ method }) => method === 'messages' || method === 'lifecycle'))
    const said = messages
      .filter(({ method }) => method === 'messages')
      .map(({ params: { data, node } }) => {
        const { message_id: _, run_id: __, id: ___, metadata: ____, ...rest } = data
        return [node, rest]
      })
    expect(said).toEqual([
      ['answer', { event: 'message-start', role: 'ai' }],
      ['answer', { event: 'content-block-start', index: 0, content: { type: 'text', text: '' } }],
      ...['Hel', 'lo', '!'].map((text) => [
        'answer',
        { event: 'content-block-delta', index: 0, delta: { type: 'text-delta', text } },
      ]),
      ['answer', { event: 'content-block-finish', index: 0, content: { type: 'text', text: 'Hello!' } }],
      ['answer', { event: 'message-finish' }],
      ['call', { event: 'message-start', role: 'ai' }],
      [
        'call',
        {
          event: 'content-block-start',
          index: 0,
          content: { type: 'tool_call_chunk', id: 'sum', name: 'add', args: '' },
        },
      ],
      ['call', { event: 'content-block-delta', index: 0, delta: { type: 'tool-call-delta', args: '{"a":1,"b":2}' } }],
      [
        'call',
        {
          event: 'content-block-finish',
          index: 0,
          content: { type: 'tool_call', id: 'sum', name: 'add', args: { a: 1, b: 2 } },
        },
      ],
      ['call', { event: 'message-finish' }],
    ])
    const tools = (await read(threadId, { channels: ['tools', 'lifecycle'] })).filter(
      ({ method }) => method === 'tools',
    )
    expect(tools.map(({ params }) => params.data)).toMatchObject([
      { event: 'tool-started', tool_call_id: 'sum', tool_name: 'add' },
      { event: 'tool-finished', tool_call_id: 'sum', output: { content: '3' } },
    ])
    // Who takes the root alone hears what its nodes say.
    const atRoot = await read(threadId, { channels: ['messages', 'tools', 'lifecycle'], namespaces: [[]], depth: 0 })
    expect(numbers(atRoot)).toEqual(
      numbers(all.filter(({ method }) => ['messages', 'tools', 'lifecycle'].includes(method))),
    )
    expect(atRoot.every(({ params }) => params.namespace.length === 0)).toBe(true)
  })

  test('what follows any event is given by its number, and namespaces and depth choose among it', async () => {
    const threadId = newThread()
    await start(threadId, 'nested', { log: [] })
    await start(threadId, 'steps', { log: [] }).catch(() => {})
    const all = await read(threadId)
    for (const since of numbers(all).slice(0, -1)) {
      expect(await read(threadId, { since })).toEqual(all.filter(({ seq }) => seq > since))
      expect(await read(threadId, { since }, 1, on.server)).toEqual(all.filter(({ seq }) => seq > since))
    }
    const inner = all.find(({ params }) => params.namespace.length === 1)?.params.namespace as string[]
    const below = async (body: object) => {
      const reader = await open(threadId, body as Record<string, unknown>)
      const count = all.filter(({ params }) => params.namespace.length === 1).length
      const seen: ThreadEvent[] = []
      while (seen.length < count) seen.push((await reader.next()) as ThreadEvent)
      await reader.leave()
      return seen
    }
    for (const namespaces of [[inner], [['inner']]])
      expect(await below({ namespaces })).toEqual(all.filter(({ params }) => params.namespace.length === 1))
  })

  test('a question is asked once with what it is, and is not replayed once it was answered', async () => {
    const threadId = newThread()
    const live = await open(threadId.length ? (await on.client.threads.create({ threadId })).thread_id : threadId)
    await start(threadId, 'approve', { topic: 'cake' })
    const asked = await live.upTo(isEnd)
    const [id] = await on.open(threadId)
    const questions = (events: readonly ThreadEvent[]) => events.filter(({ method }) => method.startsWith('input.'))
    expect(questions(asked).map(({ method, params }) => [method, params.namespace, params.data])).toEqual([
      ['input.requested', [], { interrupt_id: id, payload: { approve: 'cake' }, value: { approve: 'cake' } }],
    ])
    expect(asked.at(-1)?.params.data).toEqual({ event: 'interrupted' })
    expect(JSON.stringify(asked.filter(({ method }) => method === 'values'))).not.toContain('__interrupt__')
    expect(await read(threadId)).toEqual(asked)
    await on.does(threadId, 'input.respond', { namespace: [], interrupt_id: id, response: 'yes' })
    const answered = await live.upTo(isEnd)
    expect(answered.slice(0, 2).map(({ method, params }) => [method, params.data])).toEqual([
      ['lifecycle', { event: 'running' }],
      ['input.answered', { interrupt_ids: [id] }],
    ])
    expect(answered.at(-1)?.params.data).toEqual({ event: 'completed' })
    await live.leave()
    const isOver = ({ method, params }: ThreadEvent) =>
      method === 'input.requested' || params.data.event === 'interrupted'
    expect(await read(threadId)).toEqual([...asked.filter((event) => !isOver(event)), ...answered])
  })

  test('a run that fails says why, and a strict answer to what does not wait says what does', async () => {
    const threadId = newThread()
    await start(threadId, 'steps', { log: [], fail: { second: 'error' } })
    expect((await read(threadId)).at(-1)?.params.data).toEqual({ event: 'failed', error: 'the node broke' })
    const asking = newThread()
    await start(asking, 'approve', { topic: 'cake' })
    const [open_id] = await on.open(asking)
    const body = { assistant_id: 'approve', strict_resume: true, command: { resume: { ['0'.repeat(32)]: 'yes' } } }
    await on.server.request('POST', `/threads/${asking}/runs/wait`, body).then((answer) => answer.text())
    const refused = (await read(asking)).at(-1)?.params.data
    expect(refused).toEqual({
      event: 'failed',
      error: expect.any(String),
      reason: expect.any(String),
      interrupt_ids: ['0'.repeat(32)],
      pending_ids: [open_id],
    })
  })

  test('a run that is cancelled is interrupted', async () => {
    const [threadId, gate] = [newThread(), v7()]
    const { run_id } = await on.does(threadId, 'run.start', { assistant_id: 'family', input: { hold: gate } })
    const reader = await open(threadId)
    await reader.upTo(({ method }) => method === 'tasks')
    await on.client.runs.cancel(threadId, run_id, true).catch(() => {})
    expect((await reader.upTo(isEnd)).at(-1)?.params.data).toEqual({ event: 'interrupted' })
    await reader.leave()
  })

  test('runs of v1 are told in the words of the protocol', async () => {
    const threadId = (await on.client.threads.create()).thread_id
    const stream_mode = ['values', 'updates', 'messages-tuple', 'custom']
    const input = { messages: [{ role: 'user', content: 'hi', id: 'q' }] }
    const v1 = await on.server.request('POST', `/threads/${threadId}/runs/stream`, {
      assistant_id: 'talk',
      input,
      stream_mode,
    })
    await readEvents(v1).rest()
    const events = await read(threadId)
    expect([events[0]?.params.data, events.at(-1)?.params.data]).toEqual([{ event: 'running' }, { event: 'completed' }])
    const text = events.flatMap(({ params: { data } }) => (data.delta?.type === 'text-delta' ? [data.delta.text] : []))
    expect(text).toEqual(['Hel', 'lo', '!'])
    expect(events.filter(({ method }) => method === 'updates').map(({ params }) => params.node)).toEqual([
      'answer',
      'call',
      'tools',
    ])
    // One that streams nothing but its values still says what it asks.
    await readEvents(
      await on.server.request('POST', `/threads/${threadId}/runs/stream`, {
        assistant_id: 'approve',
        input: { topic: 'tea' },
        stream_mode: 'messages-tuple',
      }),
    ).rest()
    const more = await read(threadId, { since: events.at(-1)?.seq })
    expect(more.map(brief)).toEqual(['lifecycle running', 'input.requested', 'lifecycle interrupted'])
  })

  test('readers of v1 see runs of the protocol as they see any', async () => {
    const threadId = newThread()
    const runId = await start(threadId, 'nested', { log: [] })
    const headers = { 'last-event-id': '-1' }
    const joined = await readEvents(
      await on.other.request('GET', `/threads/${threadId}/runs/${runId}/stream`, undefined, headers),
    ).rest()
    expect(joined.map(({ event }) => event.replace(/:[^|]*/g, ''))).toEqual([
      'metadata',
      'values',
      'tasks',
      'custom',
      'updates',
      'tasks',
      'values',
      'tasks',
      'values|inner',
      'tasks|inner',
      'custom|inner',
      'updates|inner',
      'tasks|inner',
      'values|inner',
      'updates',
      'tasks',
      'values',
      'end',
    ])
    expect((await on.client.runs.list(threadId)).map(({ run_id, status }) => [run_id, status])).toEqual([
      [runId, 'success'],
    ])
  })

  test('a thread that is not there is told so, what cannot be subscribed to is refused, and a thread that is deleted ends its stream', async () => {
    const ask = async (threadId: string, body: unknown) => {
      const answer = await on.server.request('POST', `/threads/${threadId}/stream/events`, body)
      return [answer.status, ((await answer.json()) as { code: string }).code]
    }
    expect(await ask(v7(), { channels: ['values'] })).toEqual([404, 'thread_not_found'])
    for (const body of [
      {},
      { channels: [] },
      { channels: ['nothing'] },
      { channels: ['custom:'] },
      { channels: ['values'], depth: -1 },
      { channels: ['values'], since: 'x' },
    ])
      expect(await ask(v7(), body)).toEqual([422, 'validation_failed'])
    const threadId = (await on.client.threads.create()).thread_id
    const reader = await open(threadId)
    await on.client.threads.delete(threadId)
    expect(await reader.next()).toBeUndefined()
  })
})
