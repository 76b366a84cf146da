import { expect, test } from 'vitest'
import type { ThreadEvent } from '../../src/runs/protocol.ts'
import { hearsOf } from '../../src/runs/subscription.ts'

const event = (namespace: string[], more: Partial<ThreadEvent> = {}): ThreadEvent => ({
  method: 'messages',
  namespace,
  params: '{}',
  seq: 1,
  run_id: 'r',
  ...more,
})
const model = event(['model:1'], { inTask: true })
const inner = event(['writer:1', 'model:2'], { inTask: true })
const withinTool = event(['tools:1'], { inTask: true, apart: true })
const channels = ['messages']

test('what a node says is heard under its graph by everybody who reaches the graph', () => {
  const all = hearsOf({ channels })
  expect([all(model), all(inner)]).toEqual([[], ['writer:1']])
  const near = hearsOf({ channels, namespaces: [[]], depth: 1 })
  expect([near(model), near(inner)]).toEqual([[], ['writer:1']])
  const root = hearsOf({ channels, namespaces: [[]], depth: 0 })
  expect([root(model), root(inner)]).toEqual([[], undefined])
})

test('who asks for a node hears it under the node', () => {
  expect(hearsOf({ channels, namespaces: [['model']] })(model)).toEqual(['model:1'])
  expect(hearsOf({ channels, namespaces: [['writer', 'model']] })(inner)).toEqual(['writer:1', 'model:2'])
})

test('what is told apart from its graph is heard there only by who does not reach further', () => {
  expect(hearsOf({ channels })(withinTool)).toEqual(['tools:1'])
  expect(hearsOf({ channels, namespaces: [[]], depth: 1 })(withinTool)).toEqual(['tools:1'])
  expect(hearsOf({ channels, namespaces: [[]], depth: 0 })(withinTool)).toEqual([])
})
