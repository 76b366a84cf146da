// What a thread takes in the database beside what was said on it, and that it shows what was said all the same: the values of
// every checkpoint and what every task wrote.

import { randomBytes } from 'node:crypto'
import { AIMessage, type BaseMessage } from '@langchain/core/messages'
import { END, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'
import type { Client } from '@langchain/langgraph-sdk'
import { beforeAll, expect, test } from 'vitest'
import { createGates, type Gates } from '../support/gates.ts'
import { eachStack, type TestServer } from '../support/stacks.ts'

const said = (messages: BaseMessage[]) => String(messages.at(-1)?.content)

/** Answers with as much as it was told, and then passes a gate if it was told that one is there. */
const createEcho = (gates: Gates) =>
  new StateGraph(MessagesAnnotation)
    .addNode('echo', ({ messages }) => ({ messages: [new AIMessage(`echo: ${said(messages)}`)] }))
    .addNode('wait', async ({ messages }, config) => {
      if (said(messages).includes(GATE)) await gates.pass(GATE, config.signal)
      return {}
    })
    .addEdge(START, 'echo')
    .addConditionalEdges('echo', ({ messages }) => (said(messages).includes(GATE) ? 'wait' : END), ['wait', END])
    .addEdge('wait', END)
    .compile()
const GATE = 'gate'

/** What it says last decides about its end, at a gate if it was told that one is there. */
const createDecider = (gates: Gates) =>
  new StateGraph(MessagesAnnotation)
    .addNode('say', () => ({ messages: [new AIMessage('said')] }))
    .addEdge(START, 'say')
    .addConditionalEdges('say', async ({ messages }) => {
      if (said(messages).includes(GATE)) await gates.pass(said(messages), undefined)
      return END
    })
    .compile()

type Content = { content: string }
type History = Awaited<ReturnType<Client['threads']['getHistory']>>

/** By checkpoint, newest first: the texts of its messages, and what each of its tasks wrote. */
const shown = (history: History) =>
  history.map(({ values, tasks }) => ({
    messages: ((values as { messages?: Content[] }).messages ?? []).map(({ content }) => content),
    tasks: tasks.map(({ name, result }) => [
      name,
      (result as { messages?: Content[] } | null)?.messages?.map(({ content }) => content),
    ]),
  }))

/** What `shown` gives of turns. */
function meant(turns: readonly string[], before: readonly string[] = []) {
  const states: ReturnType<typeof shown> = []
  let messages = [...before]
  for (const text of turns) {
    const [told, answered] = [
      [...messages, text],
      [...messages, text, `echo: ${text}`],
    ]
    states.push(
      { messages, tasks: [['__start__', [text]]] },
      { messages: told, tasks: [['echo', [`echo: ${text}`]]] },
      { messages: answered, tasks: [] },
    )
    messages = answered
  }
  return states.reverse()
}

eachStack((stack) => {
  const gates = createGates()
  let server: TestServer
  beforeAll(async () => {
    server = await stack.heddle({ graphs: { echo: createEcho(gates), decider: createDecider(gates) } })
  })
  const turns = (count: number) =>
    Array.from({ length: count }, (_, i) => `turn ${i} ${randomBytes(250).toString('hex')}`)
  const say = async (threadId: string, texts: readonly string[], options = {}) => {
    for (const content of texts)
      await server.client.runs.wait(threadId, 'echo', { input: { messages: [{ role: 'user', content }] }, ...options })
  }
  const history = (threadId: string) => server.client.threads.getHistory(threadId, { limit: 100 })
  const storage = async (threadId: string) =>
    (await (await server.request('GET', `/threads/${threadId}/storage`)).json()) as {
      total_bytes: number
      pending_writes: { bytes: number }
    }

  test.each(['async', 'sync', 'exit'] as const)(
    'with %s, a thread takes at most four bytes for each that was said',
    async (durability) => {
      const { thread_id } = await server.client.threads.create()
      const texts = turns(20)
      await say(thread_id, texts, { durability })
      const bytes = texts.reduce((sum, text) => sum + 2 * text.length + 'echo: '.length, 0)
      expect((await storage(thread_id)).total_bytes).toBeLessThan(4 * bytes)
      const all = shown(await history(thread_id))
      if (durability !== 'exit') expect(all).toEqual(meant(texts))
      else expect(all.map(({ messages }) => messages.length)).toEqual(texts.map((_, i) => 2 * (i + 1)).reverse())
    },
  )

  test('what tasks wrote reads as it was after forks, a rollback, a copy and a prune', async () => {
    const { threads, runs } = server.client
    const { thread_id: id } = await threads.create()
    const [first, second, third, undone] = turns(4) as [string, string, string, string]
    await say(id, [first, second])
    const before = await history(id)
    expect(shown(before)).toEqual(meant([first, second]))

    // Told otherwise, from after the first turn.
    const { checkpoint } = before[3] as (typeof before)[number]
    await say(id, [third], { checkpointId: checkpoint.checkpoint_id })
    const fork = meant([third], [first, `echo: ${first}`])
    expect(shown(await history(id))).toEqual([...fork, ...shown(before)])
    // The same node again, from where it ran before: what it wrote then stays.
    const ran = before.find(({ next }) => next[0] === 'echo') as (typeof before)[number]
    await runs.wait(id, 'echo', { input: null, checkpointId: ran.checkpoint.checkpoint_id as string })
    const again = await history(id)
    expect(shown(again).slice(-6)).toEqual(meant([first, second]))

    const held = { input: { messages: [{ role: 'user', content: `${GATE} ${undone}` }] } }
    const run = await runs.create(id, 'echo', held)
    await gates.reached(GATE)
    expect(await history(id)).toHaveLength(again.length + 3)
    await runs.cancel(id, run.run_id, true, 'rollback')
    gates.open(GATE)
    expect(await history(id)).toEqual(again)

    const copy = await threads.copy(id)
    expect(shown(await history(copy.thread_id))).toEqual(shown(await history(id)))

    const latest = shown(await history(id))[0]
    await server.request('POST', '/threads/prune', { thread_ids: [id], strategy: 'keep_latest' })
    expect(shown(await history(id))).toEqual([latest])
    expect((await storage(id)).pending_writes.bytes).toBe(0)
    // The copy has all that it needs.
    expect(shown(await history(copy.thread_id)).slice(-6)).toEqual(meant([first, second]))
  })

  test('a change of the state from a checkpoint that is pruned meanwhile is refused, and the thread is as the prune left it', async () => {
    const { threads, runs } = server.client
    const { thread_id: id } = await threads.create()
    for (const content of turns(2)) await runs.wait(id, 'decider', { input: { messages: [{ role: 'user', content }] } })
    const [latest, , , older] = await threads.getHistory(id)
    const held = `${GATE} ${id}`
    const change = { values: { messages: [{ role: 'ai', content: held }] }, as_node: 'say' }
    const checkpoint_id = older?.checkpoint.checkpoint_id
    const changing = server.request('POST', `/threads/${id}/state`, { ...change, checkpoint_id })
    await gates.reached(held)
    await server.request('POST', '/threads/prune', { thread_ids: [id], strategy: 'keep_latest' })
    gates.open(held)
    const answer = await changing
    expect([answer.status, await answer.json()]).toMatchObject([404, { code: 'checkpoint_not_found' }])
    expect((await threads.getHistory(id)).map(({ values }) => values)).toEqual([latest?.values])
  })
})
