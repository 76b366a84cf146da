// What a thread takes where lists are handed on whole: to graphs that are nodes and back, and to tasks that are sent the state.

import { randomBytes } from 'node:crypto'
import { BaseChatModel } from '@langchain/core/language_models/chat_models'
import { AIMessage, type BaseMessage, HumanMessage } from '@langchain/core/messages'
import { tool } from '@langchain/core/tools'
import { Annotation, interrupt, MessagesAnnotation, Send, START, StateGraph } from '@langchain/langgraph'
import type { BaseCheckpointSaver } from '@langchain/langgraph-checkpoint'
import { createAgent } from 'langchain'
import { beforeAll, expect, test } from 'vitest'
import { eachStack, type TestServer } from '../support/stacks.ts'

const said = (messages: BaseMessage[]) => String(messages.at(-1)?.content)

/** Asks for its tool once, and then says what it heard. */
class Asking extends BaseChatModel {
  _llmType() {
    return 'asking'
  }
  override bindTools() {
    return this
  }
  async _generate(messages: BaseMessage[]) {
    const last = messages.at(-1)
    const call = { name: 'look', args: { what: said(messages).slice(0, 8) }, id: `call ${messages.length}` }
    const message =
      last?.getType() === 'tool'
        ? new AIMessage(`heard: ${said(messages)}`)
        : new AIMessage({ content: '', tool_calls: [call] })
    return { generations: [{ text: String(message.content), message }] }
  }
}

const look = tool(async ({ what }: { what: string }) => `${what} ${'is far away '.repeat(20)}`, {
  name: 'look',
  description: 'Looks.',
  schema: { type: 'object', properties: { what: { type: 'string' } } },
})
const agent = createAgent({ model: new Asking({}), tools: [look] }).graph
const answer = ({ messages }: typeof MessagesAnnotation.State) => ({
  messages: [new AIMessage(`heard: ${said(messages)}`)],
})
const inner = new StateGraph(MessagesAnnotation).addNode('answer', answer).addEdge(START, 'answer').compile()
const middle = new StateGraph(MessagesAnnotation).addNode('inner', inner).addEdge(START, 'inner').compile()

const graphs = {
  agent,
  supervisor: new StateGraph(MessagesAnnotation).addNode('agent', agent).addEdge(START, 'agent').compile(),
  nested: new StateGraph(MessagesAnnotation).addNode('middle', middle).addEdge(START, 'middle').compile(),
  sends: new StateGraph(MessagesAnnotation)
    .addNode('answer', answer)
    .addConditionalEdges(START, (state) => [new Send('answer', state)])
    .compile(),
}

const ask = new StateGraph(MessagesAnnotation)
  .addNode('ask', ({ messages }) => ({ messages: [new AIMessage(`told ${interrupt(`${messages.length} said`)}`)] }))
  .addEdge(START, 'ask')
  .compile()
const asks = new StateGraph(MessagesAnnotation)
  .addNode('remind', () => ({ messages: [new HumanMessage(`Remember: ${'all of it '.repeat(40)}`)] }))
  .addNode('ask', ask)
  .addEdge(START, 'remind')
  .addEdge('remind', 'ask')
  .compile()

/** Looks at its own history when it is told to. */
const looks = new StateGraph(Annotation.Root({ question: Annotation<string>(), items: Annotation<string[]>() }))
  .addNode('look', async ({ question, items }, config) => {
    const { thread_id, __pregel_checkpointer: checkpointer } = config.configurable as {
      thread_id: string
      __pregel_checkpointer: BaseCheckpointSaver
    }
    const at = { configurable: { thread_id, checkpoint_ns: '' } }
    const seen: string[] = []
    if (question === 'look') for await (const { checkpoint } of checkpointer.list(at)) seen.push(checkpoint.id)
    return { items: [...(items ?? []), seen.length > 0 ? `saw ${seen.length}` : question] }
  })
  .addEdge(START, 'look')
  .compile()

/** Remembers what it was given from call to call, and is called twice at once: in one namespace. */
const keeps = new StateGraph(MessagesAnnotation)
  .addNode('edit', ({ messages }) => ({
    messages: [new HumanMessage({ content: 'edited '.repeat(60), id: messages[0]?.id })],
  }))
  .addNode('answer', ({ messages }) => ({ messages: [...messages, new AIMessage({ content: 'b'.repeat(300) })] }))
  .addEdge(START, 'edit')
  .addEdge('edit', 'answer')
  .compile({ checkpointer: true })
const twice = new StateGraph(MessagesAnnotation)
  .addNode('keeps', keeps)
  .addConditionalEdges(START, () =>
    ['a', 'b'].map((id) => new Send('keeps', { messages: [new HumanMessage({ content: id.repeat(400), id })] })),
  )
  .compile()

eachStack((stack) => {
  let server: TestServer
  beforeAll(async () => {
    server = await stack.heddle({ graphs: { ...graphs, asks, looks, twice } })
  })
  const total = async (threadId: string) => {
    const answer = await server.request('GET', `/threads/${threadId}/storage`)
    return ((await answer.json()) as { total_bytes: number }).total_bytes
  }
  const say = (threadId: string, graph: string, content: string) =>
    server.client.runs.wait(threadId, graph, { input: { messages: [{ role: 'user', content }] } }) as Promise<{
      messages: { content: string }[]
    }>

  test.each(Object.keys(graphs))('with graph %s, later turns take no more than earlier ones', async (graph) => {
    const { thread_id } = await server.client.threads.create()
    const sizes = [0]
    const texts: string[] = []
    for (let turn = 0; turn < 24; turn++) {
      const text = randomBytes(200).toString('hex')
      const { messages } = await say(thread_id, graph, text)
      const each = messages.length / (turn + 1)
      texts.push(text)
      expect(messages.filter((_, i) => i % each === 0).map(({ content }) => content)).toEqual(texts)
      if (turn % 8 === 7) sizes.push(await total(thread_id))
    }
    const [first, second, third] = sizes.slice(1).map((size, i) => size - (sizes[i] as number)) as [
      number,
      number,
      number,
    ]
    expect(second).toBeLessThan(1.05 * first)
    expect(third).toBeLessThan(1.05 * second)
    const history = await server.client.threads.getHistory(thread_id, { limit: 1_000 })
    const lengths = history.map(({ values }) => (values as { messages?: unknown[] }).messages?.length ?? 0)
    expect(lengths).toEqual([...lengths].sort((a, b) => b - a))
    const results = history.flatMap(({ tasks }) =>
      tasks.map(({ result }) => result as { messages?: BaseMessage[] } | null),
    )
    const longest = Math.max(...results.map((result) => result?.messages?.length ?? 0))
    // A graph that is a node gives back all that it was given.
    expect(longest).toBe(graph === 'supervisor' || graph === 'nested' ? lengths[0] : 1)
  })

  test('a graph in a graph that waits has the list that it was given, and goes on from there', async () => {
    const { thread_id } = await server.client.threads.create()
    await say(thread_id, 'asks', 'first')
    const { tasks } = await server.client.threads.getState(thread_id, undefined, { subgraphs: true })
    const state = tasks[0]?.state as unknown as {
      values: { messages: { content: string }[] }
      tasks: { interrupts: unknown[] }[]
    }
    expect(state.values.messages.map(({ content }) => content.slice(0, 8))).toEqual(['first', 'Remember'])
    expect(state.tasks[0]?.interrupts).toMatchObject([{ value: '2 said' }])
    const values = await server.client.runs.wait(thread_id, 'asks', { command: { resume: 'yes' } })
    expect((values as { messages: { content: string }[] }).messages.map(({ content }) => content.slice(0, 8))).toEqual([
      'first',
      'Remember',
      'told yes',
    ])
  })

  test('a run that read its history leaves all of its state to the next', async () => {
    const { thread_id } = await server.client.threads.create()
    const ask = (question: string) => server.client.runs.wait(thread_id, 'looks', { input: { question } })
    for (const question of ['one', 'two', 'look']) await ask(question)
    expect(await ask('four')).toMatchObject({ items: ['one', 'two', 'saw 8', 'four'] })
  })

  test('two at once in one namespace can both be read', async () => {
    const { thread_id } = await server.client.threads.create()
    const { messages } = (await server.client.runs.wait(thread_id, 'twice', { input: { messages: [] } })) as {
      messages: { id: string }[]
    }
    expect(messages.map(({ id }) => id).filter((id) => id === 'a' || id === 'b')).toEqual(['a', 'b'])
    const body = { limit: 100, checkpoint: { checkpoint_ns: 'keeps' } }
    const history = await server.request('POST', `/threads/${thread_id}/history`, body)
    expect(history.status).toBe(200)
    const states = (await history.json()) as { values: { messages?: { id: string }[] } }[]
    const first = states.flatMap(({ values }) => values.messages?.slice(0, 1) ?? [])
    expect(new Set(first.map(({ id }) => id))).toEqual(new Set(['a', 'b']))
  })
})
