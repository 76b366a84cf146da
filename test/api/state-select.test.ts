// What of a state is selected is what the whole state has there, wherever a thread stands, and the rest is not read.

import { AIMessage, HumanMessage } from '@langchain/core/messages'
import { Annotation, END, interrupt, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'
import type { ThreadState } from '@langchain/langgraph-sdk'
import { beforeAll, expect, test } from 'vitest'
import { notes } from '../support/graphs/notes.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { eachStack, type TestServer } from '../support/stacks.ts'

const Both = Annotation.Root({
  ...MessagesAnnotation.spec,
  log: Annotation<string[]>({ reducer: (before, added) => [...before, ...added], default: () => [] }),
  notes: Annotation<{ found: Map<string, Date>; big: bigint }>(),
})

/** Two nodes at once: one is done at once, one asks twice; then a third looks at what there is. */
const both = new StateGraph(Both)
  .addNode('quick', () => ({
    log: ['quick'],
    messages: [new AIMessage({ id: 'a', content: 'said', tool_calls: [{ id: 'c', name: 't', args: { deep: [1] } }] })],
    notes: { found: new Map([['x', new Date(0)]]), big: 2n ** 70n },
  }))
  .addNode('slow', () => ({ log: [`heard ${interrupt('first?')} and ${interrupt('second?')}`] }))
  .addNode('last', ({ messages, notes }) => ({
    log: [
      `${messages.every((one) => one instanceof HumanMessage || one instanceof AIMessage)} ${notes.found instanceof Map}`,
    ],
  }))
  .addEdge(START, 'quick')
  .addEdge(START, 'slow')
  .addEdge(['quick', 'slow'], 'last')
  .addEdge('last', END)
  .compile()

const PARTS = ['values', 'next', 'tasks', 'checkpoint', 'metadata', 'created_at', 'parent_checkpoint', 'interrupts']
const SELECTIONS = [
  ...PARTS.map((part) => [part]),
  ['next', 'metadata', 'checkpoint'],
  ['values', 'tasks'],
  ['values.log', 'next'],
]

const selected = (state: object, selection: readonly string[]) => {
  const kept = Object.entries(state).filter(([part]) => selection.includes(part))
  const keys = selection.filter((name) => name.startsWith('values.')).map((name) => name.slice(7))
  const { values } = state as { values: Record<string, unknown> }
  const chosen = Object.fromEntries(keys.flatMap((key) => (key in values ? [[key, values[key]]] : [])))
  return { ...(keys.length > 0 && { values: chosen }), ...Object.fromEntries(kept) }
}

eachStack((stack) => {
  let server: TestServer
  beforeAll(async () => {
    server = await stack.heddle({ graphs: { ...createRunGraphs().graphs, notes, both } })
  })
  const json = async (path: string, body?: unknown) => {
    const answer = await server.request(body === undefined ? 'GET' : 'POST', path, body)
    expect([path, answer.status]).toEqual([path, 200])
    return answer.json()
  }
  const ran = async (graph: string, ...steps: Parameters<TestServer['client']['runs']['wait']>[2][]) => {
    const { thread_id } = await server.client.threads.create()
    for (const step of steps) await server.client.runs.wait(thread_id, graph, step)
    return thread_id
  }
  const input = { messages: [{ type: 'human', id: 'h', content: 'hi' }] }
  const positions: Record<string, () => Promise<string>> = {
    'at its end': () => ran('notes', { input: { topic: 'a' } }),
    'at its end, with messages': () => ran('talk', { input }),
    'at its end, with texts that are odd': () => ran('odd', { input: {} }),
    'where a node asks': () => ran('notes', { input: { topic: 'a', ask: 'outer' } }),
    'where a subgraph asks': () => ran('notes', { input: { topic: 'a', ask: 'inner' } }),
    'where one of two nodes asks': () => ran('both', { input }),
    'where it was answered and told more, and asks again': () =>
      ran('both', { input }, { command: { resume: 'one', update: { log: ['told'], messages: [] } } }),
    'after an answer to all': () =>
      ran('both', { input }, { command: { resume: 'one' } }, { command: { resume: 'two' } }),
    'after an update by hand': async () => {
      const id = await ran('both', { input })
      await server.client.threads.updateState(id, { values: { log: ['by hand'] }, asNode: 'slow' })
      return id
    },
  }

  test.each(Object.keys(positions))('of a thread %s', async (position) => {
    const id = await (positions[position] as () => Promise<string>)()
    const whole = (await json(`/threads/${id}/state`)) as ThreadState
    // A run settles the thread with what it had at hand.
    if (!position.includes('by hand')) expect(whole.values).toEqual((await server.client.threads.get(id)).values)
    const history = (await json(`/threads/${id}/history`, { limit: 100 })) as ThreadState[]
    expect(history[0]?.metadata).toEqual(whole.metadata)
    for (const selection of SELECTIONS) {
      const query = new URLSearchParams(selection.map((name) => ['select', name]))
      expect(await json(`/threads/${id}/state?${query}`)).toEqual(selected(whole, selection))
      const deep = await json(`/threads/${id}/state?subgraphs=true`)
      expect(await json(`/threads/${id}/state?subgraphs=true&${query}`)).toEqual(selected(deep, selection))
      expect(await json(`/threads/${id}/history`, { limit: 100, select: selection })).toEqual(
        history.map((state) => selected(state, selection)),
      )
      for (const state of history) {
        const at = `/threads/${id}/state/${state.checkpoint.checkpoint_id}`
        expect(await json(`${at}?${query}`)).toEqual(selected(await json(at), selection))
      }
    }
  })

  test('a node gets instances, whatever was read of the thread before', async () => {
    const id = await ran('both', { input })
    await json(`/threads/${id}/state?select=next`)
    const answers = [{ command: { resume: 'one' } }, { command: { resume: 'two' } }]
    for (const answer of answers) await server.client.runs.wait(id, 'both', answer)
    const { values } = (await json(`/threads/${id}/state`)) as { values: { log: string[] } }
    expect(values.log).toEqual(['quick', 'heard one and two', 'true true'])
  })
})
