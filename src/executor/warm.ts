// Warming up: runs a small graph of our own a few dozen times after loading, so that the first runs of a user do not pay
// for compiling LangGraph and the executor. In charge of touching nothing: what it writes goes nowhere.

import { newId } from '../ids.ts'
import { detach, unwrapGraph } from './graph.ts'
import type { RunPort, Sent } from './guest.ts'
import type { LoadedGraph } from './load.ts'
import type { Job } from './protocol.ts'

const ROUNDS = 40

/** Runs `execute` on an echo graph made of the packages of `like`; a turn of the event loop between two rounds lets
 *  real work go first. Never rejects. */
export async function warm(
  like: LoadedGraph,
  execute: (loaded: LoadedGraph, job: Job, port: RunPort) => Promise<unknown>,
): Promise<void> {
  try {
    const loaded = echo(like)
    for (let round = 0; round < ROUNDS; round++) {
      await execute(loaded, job(), nowhere())
      await new Promise(setImmediate)
    }
  } catch {
    // A graph of ours that does not run must not stop one of a user's from being tried.
  }
}

function echo(like: LoadedGraph): LoadedGraph {
  const { StateGraph, MessagesAnnotation, START, END } = like.langchain.langgraph
  const builder = new StateGraph(MessagesAnnotation)
    .addNode('echo', ({ messages }) => ({ messages: [new like.langchain.messages.AIMessage(String(messages.length))] }))
    .addEdge(START, 'echo')
    .addEdge('echo', END)
  const graph = unwrapGraph(builder.compile())
  if (graph === undefined) throw new Error('not a graph')
  return { ...like, open: async () => detach(graph) }
}

const job = (): Job => ({
  run_id: newId(),
  thread_id: newId(),
  assistant_id: newId(),
  graph_id: 'warm',
  attempt: 1,
  args: {
    input: { messages: [{ role: 'user', content: 'hello' }] },
    config: {},
    stream_mode: ['values', 'messages-tuple'],
    stream_subgraphs: false,
    durability: 'async',
  },
  metadata: {},
  fresh: true,
  epoch: 1,
  continues: false,
})

function nowhere(): RunPort {
  const done = Promise.resolve()
  const sent: Sent = { room: done, durable: () => done }
  return {
    signal: new AbortController().signal,
    storage: {
      'checkpoint.get': async () => null,
      'checkpoint.list': async () => [],
      'store.batch': async ({ ops }) => ops.map(() => null),
    },
    ended: () => {},
    events: () => done,
    put: () => sent,
    writes: () => sent,
  }
}
