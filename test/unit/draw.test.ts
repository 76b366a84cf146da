import { describe, expect, test } from 'vitest'
import { draw } from '../../src/executor/draw.ts'
import { agent } from '../support/schemas/agent.ts'
import { graph as nested } from '../support/schemas/nested.js'
import { workflow } from '../support/schemas/workflow.ts'

const ids = (drawing: Awaited<ReturnType<typeof draw>>) => drawing.nodes.map((node) => node.id)

describe('a drawing', () => {
  test('has the nodes and edges of the graph, which of them are conditional, and where it begins', async () => {
    expect(await draw(nested, false)).toEqual({
      nodes: [
        { id: '__start__', type: 'schema', data: expect.any(Object) },
        {
          ...{ id: 'middle', type: 'runnable', metadata: {} },
          data: { id: ['langgraph', 'pregel', 'CompiledStateGraph'], name: 'LangGraph' },
        },
        {
          ...{ id: 'last', type: 'runnable', metadata: {} },
          data: { id: ['langgraph', 'RunnableCallable'], name: 'last' },
        },
      ],
      edges: [
        { source: '__start__', target: 'middle' },
        { source: 'middle', target: 'last', conditional: true },
      ],
    })
  })

  test('shows the insides of subgraphs as deep as it is asked to', async () => {
    expect(ids(await draw(nested, 1))).toEqual(['__start__', 'middle:inner', 'middle:label', 'last'])
    const deep = ['__start__', 'middle:inner:leaf', 'middle:inner:twig', 'middle:label', 'last']
    expect(ids(await draw(nested, 2))).toEqual(deep)
    expect(ids(await draw(nested, true))).toEqual(deep)
  })

  test('of an agent names its tools and both ends', async () => {
    const { nodes, edges } = await draw(agent, true)
    expect(nodes.map(({ id, metadata }) => [id, metadata])).toContainEqual(['tools', { __tools: ['search'] }])
    expect(nodes.map(({ id }) => id)).toEqual(expect.arrayContaining(['__start__', '__end__']))
    expect(edges).toContainEqual({ source: 'tools', target: 'model_request' })
  })

  test('has text for ids and ends, also where the graph numbers its nodes', async () => {
    const { nodes, edges } = await draw(workflow, false)
    expect(nodes.map(({ id }) => id)).toEqual(['0', '1', '2'])
    expect(edges).toEqual([
      { source: '0', target: '1' },
      { source: '1', target: '2' },
    ])
  })

  test('is plain data', async () => {
    const drawing = await draw(agent, true)
    expect(JSON.parse(JSON.stringify(drawing))).toEqual(drawing)
  })
})
