// The thread's state after a run. In charge of reading it from what the run itself put, so that no call is made.

import type { Graph, RunnableConfig } from './graph.ts'
import type { FinalState, Job } from './protocol.ts'
import type { Saver } from './saver.ts'
import { waitingTasks } from './thread-state.ts'
import * as wire from './wire.ts'

/** The state of the thread's root namespace as it is after the run. */
export async function finalState(graph: Graph, job: Job, saver: Saver): Promise<FinalState> {
  return stateOf(graph, { configurable: { thread_id: job.thread_id } }, saver)
}

/** The latest state of the root namespace, read through `saver`. */
export async function stateOf(graph: Graph, config: RunnableConfig, saver: Saver): Promise<FinalState> {
  const checkpointer = withLatest(saver)
  const snapshot = await graph.getState({
    ...config,
    configurable: { ...config.configurable, __pregel_checkpointer: checkpointer },
  })
  const interrupts = waitingTasks(snapshot).map((task) => [task.id, JSON.parse(wire.print(task.interrupts))])
  return {
    values: wire.print(snapshot.values),
    next: snapshot.next,
    interrupts: Object.fromEntries(interrupts),
    checkpoint_id: (snapshot.config.configurable?.checkpoint_id as string | undefined) ?? null,
  }
}

// The saver itself always asks the server, because what it gives is a copy that graph code may change. Here nothing is.
function withLatest(saver: Saver): unknown {
  return new Proxy(saver.checkpointer, {
    get: (target, name) => {
      if (name === 'getTuple') {
        return async (config: RunnableConfig) =>
          (isRootHead(config) ? saver.latest() : undefined) ?? target.getTuple(config)
      }
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

const isRootHead = (config: RunnableConfig): boolean =>
  !config.configurable?.checkpoint_ns && !config.configurable?.checkpoint_id
