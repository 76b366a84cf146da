// Graphs to test commands with, as values: a question in a subgraph, a question beside work that goes on, two questions at
// once, a conversation. Each suite makes its own set, because gates are not shared.

import { AIMessage } from '@langchain/core/messages'
import {
  Annotation,
  END,
  interrupt,
  type LangGraphRunnableConfig,
  MessagesAnnotation,
  START,
  StateGraph,
} from '@langchain/langgraph'
import { createGates, type Gates } from '../gates.ts'

const log = () => Annotation<string[]>({ reducer: (before, added) => [...before, ...added], default: () => [] })
const Log = Annotation.Root({ log: log(), hold: Annotation<string | null>() })

/** A set of graphs with gates of its own. */
export function createCommandGraphs(): { graphs: Record<string, object>; gates: Gates } {
  const gates = createGates()
  const pass = async (gate: string | null | undefined, { signal }: LangGraphRunnableConfig) => {
    if (gate) await gates.pass(gate, signal)
  }

  const child = new StateGraph(Log)
    .addNode('ask', () => ({ log: [`answer: ${JSON.stringify(interrupt('may I?'))}`] }))
    .addNode('act', async ({ hold }, config) => {
      await pass(hold, config)
      return { log: ['acted'] }
    })
    .addEdge(START, 'ask')
    .addEdge('ask', 'act')
    .addEdge('act', END)
    .compile()

  /** `prepare`, the subgraph `child` that asks, `finish`. */
  const family = new StateGraph(Log)
    .addNode('prepare', () => ({ log: ['prepared'] }))
    .addNode('child', child)
    .addNode('finish', () => ({ log: ['finished'] }))
    .addEdge(START, 'prepare')
    .addEdge('prepare', 'child')
    .addEdge('child', 'finish')
    .addEdge('finish', END)
    .compile()

  /** `ask` beside `work`, which waits at the gate `hold`. */
  const busy = new StateGraph(Log)
    .addNode('ask', () => ({ log: [`heard: ${JSON.stringify(interrupt('while I work?'))}`] }))
    .addNode('work', async ({ hold }, config) => {
      await pass(hold, config)
      return { log: ['worked'] }
    })
    .addEdge(START, 'ask')
    .addEdge(START, 'work')
    .compile()

  const ask = (name: string) => async (_state: unknown, config: LangGraphRunnableConfig) => {
    const answer: unknown = interrupt({ from: name })
    if (typeof answer === 'string' && answer.startsWith('gate ')) await pass(answer.slice(5), config)
    return { log: [`${name}: ${JSON.stringify(answer)}`] }
  }
  /** `left` and `right` ask at the same time; an answer "gate X" holds its node at X. Then `after`. */
  const two = new StateGraph(Log)
    .addNode('left', ask('left'))
    .addNode('right', ask('right'))
    .addNode('after', () => ({ log: ['after'] }))
    .addEdge(START, 'left')
    .addEdge(START, 'right')
    .addEdge(['left', 'right'], 'after')
    .compile()

  /** Answers with how many messages it has seen; "hold X" as the last one holds it at the gate X. */
  const chat = new StateGraph(MessagesAnnotation)
    .addNode('reply', async ({ messages }, config) => {
      const said = String(messages.at(-1)?.content)
      if (said.startsWith('hold ')) await pass(said.slice(5), config)
      return { messages: [new AIMessage(`seen ${messages.length}`)] }
    })
    .addEdge(START, 'reply')
    .compile()

  return { graphs: { family, busy, two, chat }, gates }
}
