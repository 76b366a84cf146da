// Graphs for the Python client's tests: one that speaks in tokens, one that notes, asks and has a subgraph, and one that goes
// on until it is stopped.

import { FakeListChatModel } from '@langchain/core/utils/testing'
import { Annotation, END, interrupt, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'

const model = new FakeListChatModel({ responses: ['one two'] })

export const parrot = new StateGraph(MessagesAnnotation)
  .addNode('speak', async ({ messages }, config) => {
    config.writer?.({ heard: messages.length })
    return { messages: await model.invoke(messages, config) }
  })
  .addEdge(START, 'speak')
  .addEdge('speak', END)
  .compile()

const Inner = Annotation.Root({ topic: Annotation(), thought: Annotation() })
const Notes = Annotation.Root({
  ...Inner.spec,
  ask: Annotation(),
  log: Annotation({ reducer: (before, added) => [...before, ...added], default: () => [] }),
})
const inner = new StateGraph(Inner)
  .addNode('think', ({ topic }) => ({ thought: `about ${topic}` }))
  .addNode('rest', () => ({}))
  .addEdge(START, 'think')
  .addEdge('think', 'rest')
  .addEdge('rest', END)
  .compile()

export const notes = new StateGraph(Notes)
  .addNode('write', ({ topic }) => {
    if (topic === 'trouble') throw new RangeError('that is trouble')
    return { log: [`wrote ${topic}`] }
  })
  .addNode('review', ({ ask }) => ({ log: [ask ? `heard ${interrupt({ question: 'good?' })}` : 'reviewed'] }))
  .addNode('deepen', inner)
  .addEdge(START, 'write')
  .addEdge('write', 'review')
  .addEdge('review', 'deepen')
  .addEdge('deepen', END)
  .compile()

export const endless = new StateGraph(Notes)
  .addNode('write', () => ({ log: ['began'] }))
  .addNode(
    'wait',
    (_, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  )
  .addEdge(START, 'write')
  .addEdge('write', 'wait')
  .compile()
