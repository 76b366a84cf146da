// Graphs to test runs with, as values: steps that can be held at a gate or made to fail, a human's approval, a subgraph, a
// scripted model. Each suite makes its own set, so that gates and the ledger of what really ran are not shared.

import { AIMessage, AIMessageChunk } from '@langchain/core/messages'
import { tool } from '@langchain/core/tools'
import { FakeStreamingChatModel } from '@langchain/core/utils/testing'
import {
  Annotation,
  Command,
  END,
  interrupt,
  type LangGraphRunnableConfig,
  MessagesAnnotation,
  Send,
  START,
  StateGraph,
} from '@langchain/langgraph'
import { ToolNode } from '@langchain/langgraph/prebuilt'
import { z } from 'zod'
import { createGates, type Gates } from '../gates.ts'
import { failures } from './failures.ts'

/** What a node really did, whatever the server says. */
export interface Ran {
  node: string
  run_id: string
  attempt: number
}

export interface RunGraphs {
  /** By graph id, as `createHeddle` takes them. */
  readonly graphs: Record<string, object>
  readonly gates: Gates
  readonly ran: Ran[]
}

/** A set of graphs with gates and a ledger of its own. */
export function createRunGraphs(): RunGraphs {
  const gates = createGates()
  const ran: Ran[] = []
  const note = (node: string, config: LangGraphRunnableConfig) =>
    ran.push({ node, run_id: String(config.configurable?.run_id), attempt: Number(config.metadata?.run_attempt) })
  return {
    graphs: { steps: stepsOf(gates, note), approve, nested, talk, report, choose, pause: pauseOf(gates), odd },
    gates,
    ran,
  }
}

type Note = (node: string, config: LangGraphRunnableConfig) => void

const log = () => Annotation<string[]>({ reducer: (before, added) => [...before, ...added], default: () => [] })

const Steps = Annotation.Root({
  log: log(),
  /** The gate that a node waits at, by node. */
  hold: Annotation<Record<string, string> | null>(),
  /** What a node throws or writes that it must not, by node. */
  fail: Annotation<Record<string, string> | null>(),
  odd: Annotation<unknown>(),
})

/** `first`, `second` and `third`, each noting itself in `log`. */
function stepsOf(gates: Gates, note: Note) {
  const step = (name: string) => async (state: typeof Steps.State, config: LangGraphRunnableConfig) => {
    note(name, config)
    const gate = state.hold?.[name]
    if (gate !== undefined) await gates.pass(gate, config.signal)
    const failure = state.fail?.[name]
    return { log: [name], ...(failure !== undefined && failures(failure)) }
  }
  return new StateGraph(Steps)
    .addNode('first', step('first'))
    .addNode('second', step('second'))
    .addNode('third', step('third'))
    .addEdge(START, 'first')
    .addEdge('first', 'second')
    .addEdge('second', 'third')
    .addEdge('third', END)
    .compile()
}

const Approval = Annotation.Root({ log: log(), topic: Annotation<string>() })

/** Asks a human about `topic`, then acts on the answer. */
const approve = new StateGraph(Approval)
  .addNode('ask', ({ topic }) => ({ log: [`asked ${topic}: ${JSON.stringify(interrupt({ approve: topic }))}`] }))
  .addNode('act', () => ({ log: ['acted'] }))
  .addEdge(START, 'ask')
  .addEdge('ask', 'act')
  .addEdge('act', END)
  .compile()

const Nested = Annotation.Root({ log: log() })

const inner = new StateGraph(Nested)
  .addNode('think', (_state, config) => {
    config.writer?.({ thinking: true })
    return { log: ['think'] }
  })
  .addEdge(START, 'think')
  .addEdge('think', END)
  .compile()

/** `outer`, then the subgraph `inner` with the node `think`; both say something in the mode `custom`. */
const nested = new StateGraph(Nested)
  .addNode('outer', (_state, config) => {
    config.writer?.({ starting: true })
    return { log: ['outer'] }
  })
  .addNode('inner', async (_state, config) => ({ log: (await inner.invoke({ log: [] }, config)).log }))
  .addEdge(START, 'outer')
  .addEdge('outer', 'inner')
  .addEdge('inner', END)
  .compile()

const model = () =>
  new FakeStreamingChatModel({
    chunks: ['Hel', 'lo', '!'].map((content) => new AIMessageChunk({ id: 'answer', content })),
  })
const add = tool(({ a, b }) => String(a + b), {
  name: 'add',
  description: 'Adds two numbers.',
  schema: z.object({ a: z.number(), b: z.number() }),
})

/** Answers in three tokens, calls a tool, and ends. */
const talk = new StateGraph(MessagesAnnotation)
  .addNode('answer', async ({ messages }, config) => ({ messages: [await model().invoke(messages, config)] }))
  .addNode('call', () => ({
    messages: [
      new AIMessage({ id: 'call', content: '', tool_calls: [{ id: 'sum', name: 'add', args: { a: 1, b: 2 } }] }),
    ],
  }))
  .addNode('tools', new ToolNode([add]))
  .addEdge(START, 'answer')
  .addEdge('answer', 'call')
  .addEdge('call', 'tools')
  .addEdge('tools', END)
  .compile()

const Report = Annotation.Root({ seen: Annotation<unknown>(), ask: Annotation<string>() })

/** Reports the config that it was run with. */
const report = new StateGraph(Report, z.object({ tone: z.string().optional(), size: z.number().optional() }))
  .addNode('look', (_state, config) => {
    const {
      configurable = {},
      metadata,
      context,
      tags,
      recursionLimit,
    } = config as LangGraphRunnableConfig & { context: unknown }
    const shown = Object.entries(configurable).filter(([key]) => !/^(__|checkpoint_)/.test(key))
    return { seen: { configurable: Object.fromEntries(shown), metadata, context, tags, recursionLimit } }
  })
  .addEdge(START, 'look')
  .addEdge('look', END)
  .compile()

const Choice = Annotation.Root({ log: log() })

/** Goes nowhere by itself after `start`: commands say where. */
const choose = new StateGraph(Choice)
  .addNode('start', () => ({ log: ['start'] }), { ends: ['left', 'right'] })
  .addNode('left', (state: { log?: string[]; word?: string }) => ({ log: [`left ${state.word ?? ''}`.trim()] }))
  .addNode('right', () => new Command({ update: { log: ['right'] }, goto: new Send('left', { word: 'from right' }) }), {
    ends: ['left'],
  })
  .addEdge(START, 'start')
  .addEdge('start', END)
  .compile()

/** Writes text that databases and lines of text stumble over. */
const odd = new StateGraph(Choice)
  .addNode('write', () => ({
    log: ['a\0b', '\ud800', 'x\udfff', '\ue000', '\ue000e', '\ue0000', '\\u0000', '\u2028', '😀'],
  }))
  .addEdge(START, 'write')
  .compile()

/** `left` and `right` ask at the same time; an answer is the gate that the node then waits at. */
function pauseOf(gates: Gates) {
  const ask = (name: string) => async (_state: unknown, config: LangGraphRunnableConfig) => {
    const gate = interrupt({ from: name }) as string
    await gates.pass(gate, config.signal)
    interrupt({ from: name, again: true })
    return { log: [name] }
  }
  return new StateGraph(Choice)
    .addNode('left', ask('left'))
    .addNode('right', ask('right'))
    .addEdge(START, 'left')
    .addEdge(START, 'right')
    .compile()
}
