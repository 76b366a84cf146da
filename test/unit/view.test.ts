// What a question about a state leaves unread, and when it must not.

import * as documents from '@langchain/core/documents'
import * as messages from '@langchain/core/messages'
import * as langgraph from '@langchain/langgraph'
import * as checkpoint from '@langchain/langgraph-checkpoint'
import { describe, expect, test } from 'vitest'
import { createCodec } from '../../src/executor/codec.ts'
import type { Graph } from '../../src/executor/graph.ts'
import type { Blob, StoredCheckpoint } from '../../src/executor/stored.ts'
import { createView } from '../../src/executor/view.ts'
import { Plain } from '../../src/executor/wire.ts'

const { Annotation, END, MessagesAnnotation, START, StateGraph } = langgraph
const codec = createCodec({ messages, documents, langgraph, checkpoint })
const State = Annotation.Root({ ...MessagesAnnotation.spec, topic: Annotation<string>() })
const graph = new StateGraph(State)
  .addNode('node', () => ({}))
  .addEdge(START, 'node')
  .addEdge('node', END)
  .compile()
const viewOf = (select?: string[], of: unknown = graph) => createView(of as Graph, codec, select)

const LEFT_OUT: Blob = { type: 'left_out', bytes: new Uint8Array(0) }
const list = codec.encode([new messages.HumanMessage('x')], 'x')
const NO_TASK = '00000000-0000-0000-0000-000000000000'
const stored = (write?: { task_id: string; channel: string; blob: Blob }, value: Blob = list): StoredCheckpoint => ({
  thread_id: 't',
  checkpoint_ns: '',
  checkpoint_id: 'c',
  parent_checkpoint_id: null,
  checkpoint: {},
  metadata: {},
  values: [{ channel: 'messages', blob: value }],
  writes: write ? [{ ...write, task_path: '', idx: 0 }] : [],
})

describe('a question leaves out', () => {
  const all = ['messages', 'topic']
  test.each<[string[] | undefined, string[], string[]]>([
    [undefined, [], []],
    [[], [], []],
    [['values'], [], all],
    [['tasks'], all, []],
    [['next', 'checkpoint'], all, all],
    [['values.topic'], ['messages'], all],
    [['values.topic', 'tasks'], ['messages'], []],
  ])('that selects %j: the values of %j, the writes to %j', (select, values, writes) => {
    expect(viewOf(select)?.leaveOut).toEqual({ values, writes })
  })

  test('nothing where a node computes something of its input before it runs', () => {
    const keyed = new StateGraph(State)
      .addNode('node', () => ({}), { cachePolicy: { keyFunc: (given) => String(given) } })
      .addEdge(START, 'node')
      .compile()
    expect(viewOf(['next'], keyed)).toBeUndefined()
  })

  test('nothing that other channels have, which may decide about tasks', () => {
    const { nodes, channels, builder } = graph
    const odd = { ...channels, messages: { lc_graph_name: 'LastValue' } }
    const view = viewOf(['next'], { nodes, builder, channels: odd, streamChannelsAsIs: ['messages', 'topic'] })
    expect(view?.leaveOut.values).toEqual(['topic'])
  })
})

describe('a value that is read', () => {
  const read = (of: StoredCheckpoint, latest: boolean) => viewOf()?.values(of, latest)?.('messages', list)

  test('is printed without its messages being made', () => {
    expect(read(stored(), true)).toBeInstanceOf(Plain)
  })

  test('is made where a reducer is about to get it', () => {
    const write = { task_id: 'a', channel: 'messages', blob: list }
    expect(read(stored(write), true)).toEqual([expect.any(messages.HumanMessage)])
    expect(read(stored(write), false)).toBeInstanceOf(Plain)
    expect(read(stored({ ...write, task_id: NO_TASK }), false)).toEqual([expect.any(messages.HumanMessage)])
  })
})

test('what was left out is asked for where a reducer is about to get it', () => {
  const view = viewOf(['next'])
  const write = { task_id: 'a', channel: 'messages', blob: LEFT_OUT }
  expect(view?.values(stored(write, LEFT_OUT), true)).toBeUndefined()
  expect(view?.values(stored({ ...write, blob: list }, LEFT_OUT), true)).toBeUndefined()
  expect(view?.values(stored(write, LEFT_OUT), false)?.('messages', LEFT_OUT)).toBeNull()
  expect(
    view?.values(stored({ ...write, channel: '__interrupt__' }, LEFT_OUT), true)?.('messages', LEFT_OUT),
  ).toBeNull()
})
