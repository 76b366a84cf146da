// A graph in JavaScript, with a graph inside a graph inside it.

import { Annotation, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'
import { z } from 'zod'

const inner = new StateGraph(z.object({ depth: z.number() }))
  .addNode('leaf', () => ({ depth: 2 }))
  .addNode('twig', () => ({ depth: 3 }))
  .addEdge(START, 'leaf')
  .addEdge('leaf', 'twig')
  .compile()

const middle = new StateGraph(
  Annotation.Root({ depth: Annotation, tags: Annotation({ reducer: (a, b) => a.concat(b), default: () => [] }) }),
)
  .addNode('inner', inner)
  .addNode('label', () => ({ tags: ['x'] }))
  .addEdge(START, 'inner')
  .addEdge('inner', 'label')
  .compile()

export const graph = new StateGraph(Annotation.Root({ ...MessagesAnnotation.spec, depth: Annotation }))
  .addNode('middle', middle)
  .addNode('last', () => ({}))
  .addEdge(START, 'middle')
  .addConditionalEdges('middle', () => 'last', ['last'])
  .compile()
