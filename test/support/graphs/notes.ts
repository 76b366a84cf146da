// A graph to test threads and their state with: it notes what happens to it, stops for a human when asked to, and has a
// subgraph that can stop too.

import { Annotation, END, interrupt, START, StateGraph } from '@langchain/langgraph'

const Inner = Annotation.Root({
  /** Who asks a human: nobody, 'outer' or 'inner'. */
  ask: Annotation<string>(),
  thought: Annotation<string>(),
})
const State = Annotation.Root({
  ...Inner.spec,
  log: Annotation<string[]>({ reducer: (before, added) => [...before, ...added], default: () => [] }),
  topic: Annotation<string>(),
})

const inner = new StateGraph(Inner)
  .addNode('think', ({ ask }) => ({ thought: ask === 'inner' ? String(interrupt({ question: 'inner?' })) : 'alone' }))
  .addNode('rest', () => ({}))
  .addEdge(START, 'think')
  .addEdge('think', 'rest')
  .addEdge('rest', END)
  .compile()

export const notes = new StateGraph(State)
  .addNode('write', ({ topic }) => ({ log: [`wrote ${topic}`] }))
  .addNode('review', ({ ask }) => ({
    log: [ask === 'outer' ? `heard ${interrupt({ question: 'outer?' })}` : 'reviewed'],
  }))
  .addNode('deepen', inner)
  .addEdge(START, 'write')
  .addEdge('write', 'review')
  .addEdge('review', 'deepen')
  .addEdge('deepen', END)
  .compile()
