// A graph for processes that die: six nodes in a row, each of which says in a file that it began. What it needs to know comes
// with the input, so that it is the same in every process: the folder, at which nodes to wait for which file, and how many
// numbered events to send.

import { appendFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Annotation, StateGraph } from '@langchain/langgraph'

const State = Annotation.Root({
  done: Annotation({ reducer: (a, b) => [...a, ...b], default: () => [] }),
  dir: Annotation(),
  hold: Annotation(),
  events: Annotation(),
})

const step = (name) => async (state, config) => {
  const { run_id } = config.configurable
  const line = JSON.stringify({ run_id, node: name, attempt: config.metadata.run_attempt, ppid: process.ppid })
  appendFileSync(join(state.dir, 'ledger'), `${line}\n`)
  if (name === 'one') {
    for (let n = 0; n < (state.events ?? 0); n++) {
      config.writer?.({ n })
      if (n % 10 === 9) await sleep(10)
    }
  }
  const gate = state.hold?.[name]
  while (gate !== undefined && !existsSync(join(state.dir, gate))) await sleep(10, undefined, { signal: config.signal })
  return { done: [name] }
}

const names = ['one', 'two', 'three', 'four', 'five', 'six']
const builder = new StateGraph(State)
for (const name of names) builder.addNode(name, step(name))
for (const [i, name] of names.entries()) builder.addEdge(names[i - 1] ?? '__start__', name)
export const graph = builder.addEdge('six', '__end__').compile()
