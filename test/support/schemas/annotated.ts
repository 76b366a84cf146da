// A graph whose schemas can only be known from its types.

import type { AIMessage, HumanMessage } from '@langchain/core/messages'
import { Annotation, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'
import type { Note } from './note.ts'

const State = Annotation.Root({
  ...MessagesAnnotation.spec,
  /** How often it ran. */
  count: Annotation<number>,
  title: Annotation<string | null>,
  notes: Annotation<Note[]>({ reducer: (a, b) => a.concat(b), default: () => [] }),
  scores: Annotation<Map<string, number>>,
  last: Annotation<AIMessage | HumanMessage | null>,
  file: Annotation<{ bytes: Buffer; from?: URL }>,
})

const Input = Annotation.Root({ ...MessagesAnnotation.spec, title: State.spec.title, notes: State.spec.notes })
const Context = Annotation.Root({ user_id: Annotation<string>, mode: Annotation<'fast' | 'slow' | undefined> })

const builder = new StateGraph({ stateSchema: State, input: Input, output: State }, Context)
  .addNode('work', () => ({ count: 1 }))
  .addEdge(START, 'work')

export const graph = builder.compile()
export const uncompiled = builder
export const promised = Promise.resolve(graph)
export const made = async (_config: { configurable?: object }) => graph
export const mistyped: string = 'no graph'
