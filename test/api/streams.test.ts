// What a run says in each stream mode: names and payloads, exactly, with `metadata` first and `end` last.

import { expect, test } from 'vitest'
import type { SeenEvent } from '../support/events.ts'
import { eachRunServer, idsOf, named } from './run-server.ts'

const uuid = expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
const ns = (event: string) => expect.stringMatching(new RegExp(`^${event}\\|inner:[0-9a-f-]{36}$`)) as unknown as string
const inside = [expect.stringMatching(/^inner:[0-9a-f-]{36}$/)]

/** The events between `metadata` and `end`, whose form is held here. */
function between(events: SeenEvent[], attempt = 1): [string, unknown][] {
  const ids = idsOf(events)
  expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b))
  const all = named(events)
  expect(all[0]).toEqual(['metadata', { run_id: uuid, attempt }])
  expect(all.at(-1)).toEqual(['end', null])
  return all.slice(1, -1)
}

eachRunServer((server) => {
  const say = async (graph: string, body: Record<string, unknown>, query = '') => {
    const threadId = await server.thread()
    const input = graph === 'talk' ? { messages: [{ role: 'user', content: 'hi', id: 'q' }] } : { log: ['in'] }
    return between(await (await server.stream(threadId, { assistant_id: graph, input, ...body }, query)).rest())
  }

  test('values: the state after each step, and that is the default', async () => {
    const expected = [
      ['values', { log: ['in'] }],
      ['values', { log: ['in', 'outer'] }],
      ['values', { log: ['in', 'outer', 'think'] }],
    ]
    expect(await say('nested', { stream_mode: 'values' })).toEqual(expected)
    expect(await say('nested', {})).toEqual(expected)
    expect(await say('nested', { stream_mode: [] })).toEqual(expected)
  })

  test('updates: what each node gave, by its name', async () => {
    expect(await say('nested', { stream_mode: 'updates' })).toEqual([
      ['updates', { outer: { log: ['outer'] } }],
      ['updates', { inner: { log: ['think'] } }],
    ])
  })

  test('custom: what nodes say themselves, in subgraphs too', async () => {
    expect(await say('nested', { stream_mode: 'custom' })).toEqual([
      ['custom', { starting: true }],
      ['custom', { thinking: true }],
    ])
  })

  test('with subgraphs, their events carry their namespace behind the mode', async () => {
    const events = await say('nested', { stream_mode: ['values', 'updates', 'custom'], stream_subgraphs: true })
    expect(events).toEqual([
      ['values', { log: ['in'] }],
      ['custom', { starting: true }],
      ['updates', { outer: { log: ['outer'] } }],
      ['values', { log: ['in', 'outer'] }],
      [ns('values'), { log: [] }],
      [ns('custom'), { thinking: true }],
      [ns('updates'), { think: { log: ['think'] } }],
      [ns('values'), { log: ['think'] }],
      ['updates', { inner: { log: ['think'] } }],
      ['values', { log: ['in', 'outer', 'think'] }],
    ])
  })

  test('namespaces choose among subgraphs', async () => {
    const body = { stream_mode: 'updates', stream_subgraphs: true }
    const root = [
      ['updates', { outer: { log: ['outer'] } }],
      ['updates', { inner: { log: ['think'] } }],
    ]
    const below = [[ns('updates'), { think: { log: ['think'] } }]]
    expect(await say('nested', body, '?namespace=')).toEqual(root)
    expect(await say('nested', body, '?namespace=inner')).toEqual(below)
    expect(await say('nested', body, '?namespace=&namespace=inner')).toEqual([root[0], ...below, root[1]])
    expect(await say('nested', body, '?namespace=other')).toEqual([])
  })

  test('tasks: a task when it starts and its result', async () => {
    const id = expect.any(String)
    const events = await say('nested', { stream_mode: 'tasks', stream_subgraphs: true })
    const started = (name: string, log: string[]) => ({
      id,
      name,
      input: { log },
      triggers: [`branch:to:${name}`],
      interrupts: [],
      metadata: expect.objectContaining({ graph_id: 'nested', run_attempt: 1 }),
    })
    const done = (name: string, log: string[]) => ({ id, name, result: { log }, interrupts: [], error: null })
    expect(events).toEqual([
      ['tasks', started('outer', ['in'])],
      ['tasks', done('outer', ['outer'])],
      ['tasks', started('inner', ['in', 'outer'])],
      [ns('tasks'), started('think', [])],
      [ns('tasks'), done('think', ['think'])],
      ['tasks', done('inner', ['think'])],
    ])
  })

  test('checkpoints: each checkpoint with its address and what comes next', async () => {
    const events = await say('nested', { stream_mode: 'checkpoints' })
    const payloads = events.map(
      ([, data]) => data as Record<string, unknown> & { checkpoint: { checkpoint_id: string } },
    )
    expect(events.map(([name]) => name)).toEqual(Array(4).fill('checkpoints'))
    expect(payloads.map(({ next, values }) => [next, values])).toEqual([
      [['__start__'], { log: [] }],
      [['outer'], { log: ['in'] }],
      [['inner'], { log: ['in', 'outer'] }],
      [[], { log: ['in', 'outer', 'think'] }],
    ])
    const parents = payloads.map(({ parent_checkpoint }) => parent_checkpoint)
    expect(parents).toEqual([null, ...payloads.slice(0, -1).map(({ checkpoint }) => checkpoint)])
    expect(payloads[0]?.checkpoint).toEqual({
      thread_id: uuid,
      checkpoint_ns: '',
      checkpoint_id: uuid,
      checkpoint_map: null,
    })
    const internals = payloads.flatMap(({ config, parent_config }) =>
      Object.keys({
        ...(config as { configurable: object }).configurable,
        ...(parent_config as { configurable: object } | null)?.configurable,
      }),
    )
    expect(internals.filter((key) => key.startsWith('__'))).toEqual([])
  })

  test('debug: checkpoints, tasks and results with step and time', async () => {
    const events = await say('nested', { stream_mode: 'debug' })
    expect(events.map(([name]) => name)).toEqual(Array(8).fill('debug'))
    const payloads = events.map(([, data]) => data as { type: string; step: number; timestamp: string })
    expect(payloads.map(({ type, step }) => [type, step])).toEqual([
      ['checkpoint', -1],
      ['checkpoint', 0],
      ['task', 1],
      ['task_result', 1],
      ['checkpoint', 1],
      ['task', 2],
      ['task_result', 2],
      ['checkpoint', 2],
    ])
    for (const { timestamp } of payloads) expect(new Date(timestamp).toISOString()).toBe(timestamp)
    expect(payloads[1]).toMatchObject({
      payload: { next: ['outer'], parent_config: { configurable: {} }, values: { log: ['in'] } },
    })
  })

  const answer = expect.stringMatching(/^run-/)
  const chunk = (content: string, type: string) => ({
    content,
    additional_kwargs: {},
    response_metadata: {},
    type,
    id: answer,
    tool_calls: [],
    invalid_tool_calls: [],
    tool_call_chunks: [],
  })
  const call = { type: 'ai', id: 'call', tool_calls: [{ id: 'sum', name: 'add', args: { a: 1, b: 2 } }] }
  const sum = { type: 'tool', content: '3', name: 'add', tool_call_id: 'sum', status: 'success' }

  test('messages-tuple: each token with the metadata of its node', async () => {
    const events = await say('talk', { stream_mode: 'messages-tuple' })
    expect(events.map(([name]) => name)).toEqual(Array(5).fill('messages'))
    const tuples = events.map(([, data]) => data as [object, Record<string, unknown>])
    expect(tuples.slice(0, 3).map(([message]) => message)).toEqual(
      ['Hel', 'lo', '!'].map((text) => chunk(text, 'AIMessageChunk')),
    )
    expect(tuples.slice(3).map(([message]) => message)).toMatchObject([call, sum])
    expect(tuples.map(([, { langgraph_node }]) => langgraph_node)).toEqual([
      'answer',
      'answer',
      'answer',
      'call',
      'tools',
    ])
  })

  test('messages: the message so far, its metadata once, and whole messages complete', async () => {
    const events = await say('talk', { stream_mode: 'messages' })
    expect(events.slice(0, 4)).toEqual([
      ['messages/metadata', expect.any(Object)],
      ...['Hel', 'Hello', 'Hello!'].map((text) => ['messages/partial', [chunk(text, 'ai')]]),
    ])
    const [id, { metadata }] = Object.entries(events[0]?.[1] as Record<string, { metadata: object }>)[0] as [
      string,
      { metadata: object },
    ]
    expect(events[1]).toEqual(['messages/partial', [expect.objectContaining({ id })]])
    expect(metadata).toMatchObject({ langgraph_node: 'answer', langgraph_step: 1, graph_id: 'talk', run_attempt: 1 })
    expect(events.slice(4)).toMatchObject([
      ['messages/metadata', { call: { metadata: { langgraph_node: 'call' } } }],
      ['messages/complete', [call]],
      ['messages/metadata', {}],
      ['messages/complete', [sum]],
    ])
  })

  test('messages and messages-tuple together do not mix', async () => {
    const events = await say('talk', { stream_mode: ['messages', 'messages-tuple'] })
    const count = (name: string) => events.filter(([event]) => event === name).length
    expect([
      count('messages'),
      count('messages/partial'),
      count('messages/metadata'),
      count('messages/complete'),
    ]).toEqual([5, 3, 3, 2])
  })

  test('events: what LangChain calls its events, from the first to the last', async () => {
    const events = await say('talk', { stream_mode: 'events' })
    expect(new Set(events.map(([name]) => name))).toEqual(new Set(['events']))
    const kinds = events.map(([, data]) => (data as { event: string }).event)
    expect(kinds[0]).toBe('on_chain_start')
    expect(kinds.at(-1)).toBe('on_chain_end')
    expect(kinds.filter((kind) => kind === 'on_chat_model_stream')).toHaveLength(3)
    expect(kinds.filter((kind) => kind === 'on_tool_end')).toHaveLength(1)
  })

  test('tools: a tool when it starts and ends', async () => {
    expect(await say('talk', { stream_mode: 'tools' })).toMatchObject([
      ['tools', { event: 'on_tool_start', toolCallId: 'sum', name: 'add' }],
      ['tools', { event: 'on_tool_end', toolCallId: 'sum', name: 'add', output: sum }],
    ])
  })

  test('lifecycle: a subgraph when it starts and ends', async () => {
    expect(await say('nested', { stream_mode: 'lifecycle' })).toEqual([
      [ns('lifecycle'), { event: 'started', namespace: inside }],
      [ns('lifecycle'), { event: 'completed', namespace: inside }],
    ])
  })

  test('an error is said with its class and message before the end', async () => {
    const threadId = await server.thread()
    const input = { fail: { second: 'error' } }
    const events = await (
      await server.stream(threadId, { assistant_id: 'steps', input, stream_mode: 'updates' })
    ).rest()
    expect(between(events)).toEqual([
      ['updates', { first: { log: ['first'] } }],
      ['error', { error: 'TypeError', message: 'the node broke' }],
    ])
  })

  test('an interrupt is told in values and updates', async () => {
    const threadId = await server.thread()
    const body = { assistant_id: 'approve', input: { topic: 'cake' }, stream_mode: ['values', 'updates'] }
    const interrupts = [{ id: expect.any(String), value: { approve: 'cake' } }]
    expect(between(await (await server.stream(threadId, body)).rest())).toEqual([
      ['values', { log: [], topic: 'cake' }],
      ['updates', { __interrupt__: interrupts }],
      ['values', { __interrupt__: interrupts }],
    ])
  })

  test('a mode that does not exist is refused, with its path', async () => {
    const threadId = await server.thread()
    const answer = await server.request('POST', `/threads/${threadId}/runs/stream`, {
      assistant_id: 'steps',
      stream_mode: ['values', 'valuez'],
    })
    expect(answer.status).toBe(422)
    expect(await answer.json()).toMatchObject({
      code: 'validation_failed',
      detail: expect.stringContaining('stream_mode'),
    })
  })

  test('ids go on over the runs of a thread', async () => {
    const threadId = await server.thread()
    const all: number[] = []
    for (let run = 0; run < 3; run++) {
      all.push(...idsOf(await (await server.stream(threadId, { assistant_id: 'nested', input: { log: [] } })).rest()))
    }
    expect(all).toHaveLength(15)
    expect(all.every(Number.isSafeInteger)).toBe(true)
    expect(all).toEqual([...new Set(all)].sort((a, b) => a - b))
  })

  test('the paths to go on from stand in the headers', async () => {
    const threadId = await server.thread()
    const on = { assistant_id: 'steps', input: {} }
    const headers = async (method: string, path: string, body?: unknown) => {
      const answer = await server.request(method, path, body)
      await answer.text()
      expect(answer.status).toBe(200)
      return { content: answer.headers.get('content-location'), location: answer.headers.get('location') }
    }
    const runs = `/threads/${threadId}/runs`
    const streamed = await headers('POST', `${runs}/stream`, on)
    const run = streamed.content as string
    expect(run).toMatch(new RegExp(`^${runs}/[0-9a-f-]{36}$`))
    expect(streamed.location).toBe(`${run}/stream`)
    expect(await headers('GET', `${run}/stream`)).toEqual({ content: run, location: `${run}/stream` })
    expect(await headers('GET', `${run}/join`)).toEqual({ content: run, location: `${run}/join` })
    const waited = await headers('POST', `${runs}/wait`, on)
    expect(waited.location).toBe(`${waited.content}/join`)
    const created = await headers('POST', runs, on)
    expect(created).toEqual({ content: expect.stringContaining(runs), location: null })
    const stateless = await headers('POST', '/runs/stream', on)
    expect(stateless.content).toMatch(/^\/runs\/[0-9a-f-]{36}$/)
    expect(stateless.location).toMatch(new RegExp(`^/threads/[0-9a-f-]{36}${stateless.content}/stream$`))
    expect((await headers('POST', '/runs', on)).content).toMatch(/^\/runs\/[0-9a-f-]{36}$/)
    expect((await headers('POST', '/runs/wait', on)).content).toMatch(/^\/runs\/[0-9a-f-]{36}$/)
  })
})
