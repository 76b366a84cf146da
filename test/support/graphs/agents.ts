// Graphs that the executor's tests run. They need no network and no key, and show what they did in their state or in a
// witness file, because what a child process holds in memory cannot be seen from a test.

import { appendFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { CallbackManagerForLLMRun } from '@langchain/core/callbacks/manager'
import { BaseChatModel } from '@langchain/core/language_models/chat_models'
import {
  AIMessage,
  AIMessageChunk,
  type BaseMessage,
  HumanMessage,
  RemoveMessage,
  ToolMessage,
} from '@langchain/core/messages'
import { ChatGenerationChunk, type ChatResult } from '@langchain/core/outputs'
import { tool } from '@langchain/core/tools'
import {
  Annotation,
  BaseCheckpointSaver,
  BaseStore,
  Command,
  END,
  entrypoint,
  interrupt,
  type LangGraphRunnableConfig,
  MemorySaver,
  MessagesAnnotation,
  Send,
  START,
  StateGraph,
  task,
} from '@langchain/langgraph'
import { createAgent } from 'langchain'

// ------------------------------------------------------------------------------------------------ models

/** Streams "t0 ", "t1 ", … */
class TokenModel extends BaseChatModel {
  readonly count: number
  constructor(count: number) {
    super({})
    this.count = count
  }
  _llmType() {
    return 'tokens'
  }
  async _generate(): Promise<ChatResult> {
    const text = Array.from({ length: this.count }, (_, i) => `t${i} `).join('')
    return { generations: [{ text, message: new AIMessage(text) }] }
  }
  override async *_streamResponseChunks(_: BaseMessage[], __: unknown, manager?: CallbackManagerForLLMRun) {
    for (let i = 0; i < this.count; i++) {
      const text = `t${i} `
      const chunk = new ChatGenerationChunk({ text, message: new AIMessageChunk({ content: text }) })
      yield chunk
      await manager?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk })
    }
  }
  override bindTools() {
    return this as never
  }
}

/** Asks for the tool once, then answers. */
class ToolCaller extends BaseChatModel {
  _llmType() {
    return 'tool-caller'
  }
  async _generate(messages: BaseMessage[]): Promise<ChatResult> {
    const done = messages.some((message) => message.getType() === 'tool')
    const message = done
      ? new AIMessage('It is 42.')
      : new AIMessage({ content: '', tool_calls: [{ id: 'call_1', name: 'add', args: { a: 40, b: 2 } }] })
    return { generations: [{ text: String(message.content), message }] }
  }
  override bindTools() {
    return this as never
  }
}

const add = tool(({ a, b }: { a: number; b: number }) => String(a + b), {
  name: 'add',
  description: 'Adds',
  schema: { type: 'object', properties: { a: { type: 'number' }, b: { type: 'number' } }, required: ['a', 'b'] },
})

// ------------------------------------------------------------------------------------------------ graphs

const text = (value: unknown) => String(value)

export const echo = new StateGraph(MessagesAnnotation)
  .addNode('echo', ({ messages }) => ({ messages: [new AIMessage(`echo: ${text(messages.at(-1)?.content)}`)] }))
  .addEdge(START, 'echo')
  .addEdge('echo', END)

const TokensState = Annotation.Root({ ...MessagesAnnotation.spec, count: Annotation<number> })
// Does to its messages what the last of them says, and then says so.
export const rewrite = new StateGraph(MessagesAnnotation)
  .addNode('change', ({ messages }) => {
    const [what, at] = String(messages.at(-1)?.content).split(' ')
    const one = messages[Number(at)]
    if (one === undefined) return {}
    if (what === 'edit') one.content = `${one.content} edited in place`
    if (what === 'drop') return { messages: [new RemoveMessage({ id: one.id as string })] }
    if (what === 'replace') return { messages: [new AIMessage({ id: one.id as string, content: 'replaced' })] }
    return {}
  })
  .addNode('say', ({ messages }) => ({
    messages: [
      new AIMessage({ id: `said ${messages.length} ${messages.at(-1)?.id}`, content: `😀 of ${messages.length}` }),
    ],
  }))
  .addEdge(START, 'change')
  .addEdge('change', 'say')
  .addEdge('say', END)
  .compile()

export const tokens = new StateGraph(TokensState)
  .addNode('model', async ({ messages, count }, config) => ({
    messages: [await new TokenModel(count).invoke(messages, config)],
  }))
  .addEdge(START, 'model')
  .addEdge('model', END)
  .compile()

const StepsState = Annotation.Root({
  witness: Annotation<string>,
  die_in: Annotation<string>,
  log: Annotation<string[]>({ reducer: (a, b) => a.concat(b), default: () => [] }),
})
const step = (name: string) => async (state: typeof StepsState.State, config: LangGraphRunnableConfig) => {
  if (state.witness) appendFileSync(state.witness, `${name} attempt ${text(config.metadata?.run_attempt)}\n`)
  if (state.die_in === name && config.metadata?.run_attempt === 1) {
    await delay(50)
    process.exit(7)
  }
  return { log: [name] }
}
const stepsBuilder = new StateGraph(StepsState)
  .addNode('a', step('a'))
  .addNode('b', step('b'))
  .addNode('c', step('c'))
  .addEdge(START, 'a')
  .addEdge('a', 'b')
  .addEdge('b', 'c')
  .addEdge('c', END)
/** A graph that brings its own checkpointer, which must not be used. */
export const steps = stepsBuilder.compile({ checkpointer: new MemorySaver() })

const AskState = Annotation.Root({ question: Annotation<string>, answer: Annotation<unknown> })
export const ask = new StateGraph(AskState)
  .addNode('ask', ({ question }) => ({ answer: interrupt({ question }) }))
  .addEdge(START, 'ask')
  .addEdge('ask', END)
  .compile()

const BesideState = Annotation.Root({
  log: Annotation<string[]>({ reducer: (a, b) => a.concat(b), default: () => [] }),
})
/** One node asks while another does its work. */
export const beside = new StateGraph(BesideState)
  .addNode('ask', () => ({ log: [`heard ${interrupt('go on?') as string}`] }))
  .addNode('work', () => ({ log: ['worked'] }))
  .addEdge(START, 'ask')
  .addEdge(START, 'work')
  .compile()

const AnswersState = Annotation.Root({
  answers: Annotation<string[]>({ reducer: (a, b) => a.concat(b), default: () => [] }),
})
/** Three nodes that ask at once; the last one then says nothing. */
export const askAll = new StateGraph(AnswersState)
  .addNode('one', () => ({ answers: [interrupt('one?') as string] }))
  .addNode('two', () => ({ answers: [interrupt('two?') as string] }))
  .addNode('three', () => {
    interrupt('three?')
    return {}
  })
  .addEdge(START, 'one')
  .addEdge(START, 'two')
  .addEdge(START, 'three')
  .compile()

const WaitState = Annotation.Root({ witness: Annotation<string>, done: Annotation<boolean> })
const noteAbort = (witness: string, signal: AbortSignal | undefined) =>
  signal?.addEventListener('abort', () => {
    const { name, reason } = signal.reason as { name: string; reason: string }
    appendFileSync(witness, `${name} ${reason}\n`)
  })
export const wait = new StateGraph(WaitState)
  .addNode('prepare', () => ({ done: false }))
  .addNode('wait', async ({ witness }, config) => {
    noteAbort(witness, config.signal)
    appendFileSync(witness, 'waiting\n')
    config.writer?.('waiting')
    await new Promise(() => {})
    return { done: true }
  })
  .addEdge(START, 'prepare')
  .addEdge('prepare', 'wait')
  .compile()

/** Blocks its whole process. */
export const spin = new StateGraph(WaitState)
  .addNode('spin', ({ witness }): Record<string, never> => {
    appendFileSync(witness, 'spinning\n')
    for (;;);
  })
  .addEdge(START, 'spin')
  .compile()

const ThrowState = Annotation.Root({ kind: Annotation<string> })
const cyclic = new Error('cyclic')
cyclic.cause = cyclic
const THROWN: Record<string, () => unknown> = {
  null: () => null,
  string: () => 'a text',
  object: () => ({ code: 5 }),
  getter: () => ({
    get message() {
      throw new Error('no')
    },
    get name() {
      throw new Error('no')
    },
  }),
  bare: () => Object.assign(Object.create(null), { message: 'bare' }),
  cyclic: () => cyclic,
  long: () => new RangeError('x'.repeat(10_000_000)),
  type: () => new TypeError('wrong type'),
}
export const thrower = new StateGraph(ThrowState)
  .addNode('ok', () => ({}))
  .addNode('throw', ({ kind }) => {
    throw THROWN[kind]?.()
  })
  .addEdge(START, 'ok')
  .addEdge('ok', 'throw')
  .compile()

/** Rejects a promise nobody waits for, and ends well. */
export const careless = new StateGraph(ThrowState)
  .addNode('careless', async () => {
    void Promise.reject(new Error('nobody waits'))
    await delay(20)
    return { kind: 'done' }
  })
  .addEdge(START, 'careless')
  .compile()

const BadState = Annotation.Root({ fine: Annotation<string>, bad: Annotation<unknown> })
export const unserialisable = new StateGraph(BadState)
  .addNode('first', () => ({ fine: 'yes' }))
  .addNode('second', () => ({ fine: 'changed', bad: () => 1 }))
  .addEdge(START, 'first')
  .addEdge('first', 'second')
  .compile()

const FloodState = Annotation.Root({ count: Annotation<number>, size: Annotation<number>, sent: Annotation<number> })
export const flood = new StateGraph(FloodState)
  .addNode('flood', async ({ count, size }, config) => {
    for (let i = 0; i < count; i++) {
      config.writer?.({ i, text: 'x'.repeat(size) })
      if (i % 10 === 0) await delay(0)
    }
    return { sent: count }
  })
  .addEdge(START, 'flood')
  .compile()

const ParentState = Annotation.Root({
  log: Annotation<string[]>({ reducer: (a, b) => a.concat(b), default: () => [] }),
  answer: Annotation<unknown>,
})
const inner = new StateGraph(ParentState)
  .addNode('inner_one', () => ({ log: ['inner_one'] }))
  .addNode('inner_ask', () => ({ answer: interrupt('may I?'), log: ['inner_ask'] }))
  .addEdge(START, 'inner_one')
  .addEdge('inner_one', 'inner_ask')
  .compile()
export const parent = new StateGraph(ParentState)
  .addNode('before', () => ({ log: ['before'] }))
  .addNode('child', inner)
  .addEdge(START, 'before')
  .addEdge('before', 'child')
  .compile()

export const agent = createAgent({ model: new ToolCaller({}), tools: [add], checkpointer: new MemorySaver() })
export const tokenAgent = createAgent({ model: new TokenModel(3), tools: [] })

export const functional = entrypoint('functional', async (input: { name: string }) => {
  const greet = task('greet', async (name: string) => `hello ${name}`)
  return { greeting: await greet(input.name) }
})

export const promised = Promise.resolve(echo.compile())

const MadeState = Annotation.Root({
  context: Annotation<string>,
  tenant: Annotation<unknown>,
  has_store: Annotation<boolean>,
})
/** A factory: what it is given becomes the state. */
export const made = (
  config: LangGraphRunnableConfig,
  runtime: { accessContext: string; user: unknown; store: unknown },
) =>
  new StateGraph(MadeState)
    .addNode(runtime.accessContext === 'assistants.read' ? 'read' : 'make', () => ({
      context: runtime.accessContext,
      tenant: config.configurable?.tenant,
      has_store: runtime.store instanceof BaseStore,
    }))
    .addEdge(START, (runtime.accessContext === 'assistants.read' ? 'read' : 'make') as never)
    .compile()

const SendState = Annotation.Root({ log: Annotation<string[]>({ reducer: (a, b) => a.concat(b), default: () => [] }) })
export const router = new StateGraph(SendState)
  .addNode('left', (state: { log?: string[]; note?: string }) => ({ log: [`left ${state.note ?? ''}`.trim()] }))
  .addNode('right', () => new Command({ update: { log: ['right'] }, goto: END }))
  .addConditionalEdges(START, () => [new Send('left', { note: 'sent' }), 'right'], ['left', 'right'])
  .compile()

/** Says what user code sees of the executor's own objects. */
const LookState = Annotation.Root({
  seen: Annotation<Record<string, unknown>>,
  messages: MessagesAnnotation.spec.messages,
})
export const look = new StateGraph(LookState)
  .addNode('look', async ({ messages }, config) => {
    await config.store?.put(['notes'], 'one', { text: 'kept' })
    const item = await config.store?.get(['notes'], 'one')
    return {
      seen: {
        human: messages[0] instanceof HumanMessage,
        tool: messages[0] instanceof ToolMessage,
        checkpointer: config.configurable?.__pregel_checkpointer instanceof BaseCheckpointSaver,
        store: config.store !== undefined,
        item: item?.value,
        created: item?.createdAt instanceof Date,
        thread: config.configurable?.thread_id,
        secret: config.configurable?.authorization,
        context: config.context,
      },
    }
  })
  .addEdge(START, 'look')
  .compile()

export const notAGraph = { some: 'thing' }
