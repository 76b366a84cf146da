// The stock JavaScript client's thread streams over both transports, against processes as in production: an api, and one that
// works as well. What the client asserts of the wire by hanging or by losing events is named where it is awaited.

import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { type Cluster, startCluster } from '../faults/support/cluster.ts'
import {
  clientOf,
  contents,
  deltaOf,
  gather,
  openThread,
  says,
  type Transport,
  texts,
  upTo,
} from '../support/clients/threads.ts'
import { until } from '../support/until.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const config = fileURLToPath(new URL('../support/clients/langgraph.json', import.meta.url))
const story = Array.from({ length: 24 }, (_, i) => `word${i} `).join('')
const folder = mkdtempSync(join(tmpdir(), 'heddle-clients-'))
const closing: (() => Promise<void>)[] = []
let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster({ members: { works: 'all', api: 'api' }, config })
})
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()))
})
afterAll(async () => {
  await cluster.close()
  rmSync(folder, { recursive: true, force: true })
})

const urlOf = (name: 'api' | 'works') => cluster.member(name).url
const open = (...args: Parameters<typeof openThread>) => {
  const thread = openThread(...args)
  closing.push(() => thread.close())
  return thread
}
const start = async (thread: ReturnType<typeof openThread>, words: string) => {
  const { run_id } = await thread.run.start({ input: says(words) })
  return run_id ?? expect.fail('run.start named no run')
}
/** A gate in the middle of a story. */
const makeGate = () => {
  const file = join(folder, randomUUID())
  return { file, open: () => writeFileSync(file, '') }
}
const everything = [
  'values',
  'updates',
  'messages',
  'tools',
  'lifecycle',
  'input',
  'checkpoints',
  'tasks',
  'custom',
] as const
/** What is compared of an event: everything but the time. */
const brief = (event: {
  seq?: number
  event_id?: string
  method: string
  params: { namespace: string[]; data: unknown }
}) => ({
  seq: event.seq,
  id: event.event_id,
  method: event.method,
  namespace: event.params.namespace,
  data: event.params.data,
})

describe.each<Transport>(['sse', 'websocket'])('over %s', (transport) => {
  test('a thread stream gives messages, tool calls, values, custom events, subgraphs and the output', async () => {
    const thread = open(urlOf('api'), { assistantId: 'agent', transport })
    const run_id = await start(thread, 'weather Oslo')
    const [messages, calls, values, progress, output] = await Promise.all([
      gather(thread.messages, async (message) => ({ text: await message.text, calls: await message.toolCalls })),
      gather(thread.toolCalls, async ({ name, callId, input, output }) => ({
        name,
        callId,
        input,
        output: await output,
      })),
      gather(thread.values, texts),
      gather(thread.extensions.progress as AsyncIterable<unknown>, (payload) => payload),
      thread.output,
    ])
    const call = { type: 'tool_call', id: 'call_weather', name: 'weather', args: { city: 'Oslo' } }
    expect(messages).toEqual([
      { text: '', calls: [call] },
      { text: 'It is sunny in Oslo.', calls: [] },
    ])
    // The client shows a call when it starts and again when it ends.
    const shown = { name: 'weather', callId: 'call_weather', input: { city: 'Oslo' }, output: 'sunny in Oslo' }
    expect(calls).toEqual([shown, shown])
    expect(progress).toEqual([{ looked: 'Oslo' }])
    const said = ['weather Oslo', '', 'sunny in Oslo', 'It is sunny in Oslo.']
    expect(values).toEqual([1, 2, 3, 4].map((count) => said.slice(0, count)))
    expect(texts(output)).toEqual(said)
    expect((await clientOf(urlOf('works')).runs.get(thread.threadId, run_id)).status).toBe('success')

    const nested = open(urlOf('api'), { assistantId: 'team', transport })
    await start(nested, 'story ')
    const [graphs, told] = await Promise.all([
      gather(nested.subgraphs, ({ name, namespace }) => ({ name, depth: namespace.length })),
      gather(nested.messages, (message) => message.text),
    ])
    expect(graphs).toContainEqual({ name: 'writer', depth: 1 })
    expect(told).toEqual(['A plan.', story])

    const boss = open(urlOf('api'), { assistantId: 'boss', transport })
    await start(boss, 'delegate story ')
    const [agents, state] = await Promise.all([
      gather(boss.subagents, async (agent) => {
        const [words, { update }] = await Promise.all([
          gather(agent.messages, (message) => message.text),
          agent.output as Promise<{ update: unknown }>,
        ])
        return { name: agent.name, task: await agent.taskInput, words, told: contents(update) }
      }),
      boss.output,
    ])
    expect(agents).toEqual([{ name: 'researcher', task: 'story ', words: [story], told: [story.trimEnd()] }])
    expect(texts(state)).toEqual(['delegate story ', '', story.trimEnd(), 'The researcher has told it.'])
  })

  test('interrupts are shown, answered one by one and together, and not shown again', async () => {
    const thread = open(urlOf('api'), { assistantId: 'approval', transport })
    await start(thread, 'may we?')
    const [steps, inputs, values] = await Promise.all([
      thread.subscribe({ channels: ['lifecycle'], namespaces: [[]], depth: 0 }),
      thread.subscribe({ channels: ['input'] }),
      thread.subscribe({ channels: ['values'], namespaces: [[]], depth: 0 }),
    ])
    /** The client ends loops where a run ends or stops, and lets new ones go on with the next run. */
    const untilPause = () =>
      Promise.all([
        gather(steps, ({ params }) => (params.data as { event: string }).event),
        gather(inputs, ({ method, params }) => ({ method, data: params.data })),
        gather(values, ({ params }) => contents(params.data).at(-1)),
      ])
    expect(await untilPause()).toEqual([
      ['running', 'interrupted'],
      ['Ada?', 'Bob?'].map((question) => ({
        method: 'input.requested',
        data: { interrupt_id: expect.any(String), payload: { question }, value: { question } },
      })),
      ['may we?'],
    ])
    expect(thread.interrupted).toBe(true)
    const questions = thread.interrupts.map(({ interruptId, payload, namespace }) => ({
      interruptId,
      payload,
      namespace,
    }))
    expect(questions.map(({ payload }) => payload)).toEqual([{ question: 'Ada?' }, { question: 'Bob?' }])
    expect(questions.map(({ namespace }) => namespace)).toEqual([[], []])
    const [ada, bob] = questions.map(({ interruptId }) => interruptId) as [string, string]

    await thread.input.respond({ namespace: [], interrupt_id: ada, response: 'yes' })
    const asked = await untilPause()
    expect(asked[0]).toEqual(['running', 'interrupted'])
    expect(asked[1][0]).toEqual({ method: 'input.answered', data: { interrupt_ids: [ada] } })
    await thread.input.respond({ responses: [{ namespace: [], interrupt_id: bob, response: 'no' }] })
    const [steps3, inputs3, values3] = await untilPause()
    expect(steps3).toEqual(['running', 'completed'])
    expect(inputs3).toEqual([{ method: 'input.answered', data: { interrupt_ids: [bob] } }])
    expect(values3.at(-1)).toBe('closed')
    const state = await clientOf(urlOf('works')).threads.getState(thread.threadId)
    expect(contents(state.values)).toEqual(['may we?', 'Ada: yes', 'Bob: no', 'closed'])

    // Nobody is asked again what was answered.
    const after = open(urlOf('api'), { assistantId: 'approval', transport, threadId: thread.threadId })
    const rest = await after.subscribe({ channels: ['input', 'lifecycle'], namespaces: [[]], depth: 0 })
    const replayed = await upTo(rest, ({ params }) => (params.data as { event?: string }).event === 'completed')
    expect(replayed.filter(({ method }) => method === 'input.requested')).toEqual([])
    expect(after.interrupts).toEqual([])
  })

  test('a story goes on where it was when its api is killed and started again', async () => {
    const gate = makeGate()
    const api = cluster.member('api')
    const thread = open(api.url, { assistantId: 'agent', transport })
    const run_id = await start(thread, `story ${gate.file}`)
    let tokens = 0
    thread.onEvent(({ method, params }) => {
      if (method === 'messages' && (params.data as { event: string }).event === 'content-block-delta') tokens += 1
    })
    const told = gather(thread.messages, (message) => message.text)
    const cut = gather(await thread.subscribe({ channels: [...everything] }), brief)
    const watcher = open(urlOf('works'), { assistantId: 'agent', transport, threadId: thread.threadId })
    const whole = gather(await watcher.subscribe({ channels: [...everything] }), brief)
    await until('half of it is told', () => tokens === 12, 30_000)
    await api.stop('SIGKILL')
    await api.start()
    gate.open()
    expect(await told).toEqual([story])
    expect(texts(await thread.output)).toEqual([`story ${gate.file}`, story])
    const events = await cut
    expect(events).toEqual(await whole)
    const seqs = events.map(({ seq }) => seq ?? 0)
    expect(seqs).toEqual([...new Set(seqs)].sort((one, other) => one - other))
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length)
    const states = events.filter(({ method }) => method === 'checkpoints' || method === 'values')
    expect(states.map(({ method }) => method)).toEqual(['checkpoints', 'values', 'checkpoints', 'values'])
    expect((await clientOf(api.url).runs.get(thread.threadId, run_id)).status).toBe('success')
  })

  test('runs of older clients and of other processes are seen, and older clients see the runs of this one', async () => {
    const v1 = clientOf(urlOf('works'))
    const { thread_id } = await v1.threads.create()
    const thread = open(urlOf('api'), { assistantId: 'agent', transport, threadId: thread_id })
    const steps = await thread.subscribe({ channels: ['lifecycle'], namespaces: [[]], depth: 0 })
    const values = await thread.subscribe({ channels: ['values'], namespaces: [[]], depth: 0 })
    const words = await thread.subscribe({ channels: ['messages'] })
    const runEnds = async () => {
      const seen = await upTo(steps, ({ params }) => (params.data as { event: string }).event === 'completed')
      return seen.map(({ params }) => (params.data as { event: string }).event)
    }

    const parts = await gather(
      v1.runs.stream(thread_id, 'agent', { input: says('weather Oslo'), streamMode: ['values', 'messages-tuple'] }),
      ({ event }) => event,
    )
    expect(parts.at(-1)).toBe('end')
    const weather = ['weather Oslo', '', 'sunny in Oslo', 'It is sunny in Oslo.']
    expect(await runEnds()).toEqual(['running', 'completed'])
    const states = await upTo(values, ({ params }) => contents(params.data).length === 4)
    expect(states.map(({ params }) => contents(params.data))).toEqual([1, 2, 3, 4].map((n) => weather.slice(0, n)))
    const said = await upTo(words, ({ params }) => deltaOf(params.data) === 'sunny in Oslo.')
    expect(said.map(({ params }) => deltaOf(params.data)).join('')).toBe('It is sunny in Oslo.')

    const elsewhere = open(urlOf('works'), { assistantId: 'agent', transport: 'sse', threadId: thread_id })
    const run_id = await start(elsewhere, 'story ')
    expect(await runEnds()).toEqual(['running', 'completed'])
    const later = await upTo(values, ({ params }) => contents(params.data).at(-1) === story)
    expect(contents(later.at(-1)?.params.data)).toEqual([...weather, 'story ', story])
    for await (const { event, data } of v1.threads.joinStream(thread_id, { lastEventId: '-' }))
      if (event === 'values' && contents(data).at(-1) === story) break
    const [first, second] = await v1.runs.list(thread_id)
    expect([first?.run_id, first?.status, second?.status]).toEqual([run_id, 'success', 'success'])
    expect(await v1.runs.get(thread_id, run_id)).toMatchObject({ kwargs: { input: says('story ') } })
    const again = await gather(v1.runs.joinStream(thread_id, run_id, { lastEventId: '-1' }), ({ event, data }) =>
      event === 'values' ? contents(data) : event,
    )
    expect(again[0]).toBe('metadata')
    expect(again.filter((part) => typeof part !== 'string').at(-1)).toEqual([...weather, 'story ', story])
    expect(again.at(-1)).toBe('end')
  })
})
