// The graph that the fault harness runs: nodes in a row, each of which says in the ledger that it began and that it ended.
// The ledger is outside of the system under test: one line for one append, so lines of many processes do not mix.

import { appendFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Annotation, StateGraph } from '@langchain/langgraph'

const State = Annotation.Root({
  done: Annotation({ reducer: (a, b) => [...a, ...b], default: () => [] }),
  tag: Annotation(),
  ms: Annotation(),
  tokens: Annotation(),
  hang: Annotation(),
})

/** Every append opens the file anew: the ledger may not depend on what a process keeps in memory. */
const note = (entry) => appendFileSync(process.env.LEDGER, `${JSON.stringify(entry)}\n`)

const step = (name) => async (state, config) => {
  const { run_id: run, thread_id: thread } = config.configurable
  const at = { run, thread, node: name, tag: state.tag, attempt: config.metadata.run_attempt }
  const by = { pid: process.pid, ppid: process.ppid }
  note({ ...at, ...by, t: Date.now(), event: 'began' })
  for (let i = 0; i < (state.tokens ?? 0); i++) {
    config.writer?.({ [name]: i })
    if (i % 10 === 9) await sleep(1)
  }
  await sleep(state.ms ?? 10, undefined, { signal: config.signal })
  while (state.hang === name) await sleep(50, undefined, { signal: config.signal })
  note({ ...at, ...by, t: Date.now(), event: 'ended' })
  return { done: [`${state.tag}:${name}`] }
}

const names = ['one', 'two', 'three', 'four']
const builder = new StateGraph(State)
for (const name of names) builder.addNode(name, step(name))
for (const [i, name] of names.entries()) builder.addEdge(names[i - 1] ?? '__start__', name)
export const graph = builder.addEdge('four', '__end__').compile()
