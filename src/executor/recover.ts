// Where a run that was begun before goes on. In charge of never running a committed node again and never running past a
// breakpoint at which the earlier attempt had stopped.

import type { BaseCheckpointSaver, CheckpointTuple } from '@langchain/langgraph-checkpoint'
import type { Graph, RunnableConfig } from './graph.ts'
import type { Job } from './protocol.ts'

/** How to start: anew, from the last checkpoint of an earlier attempt, or not at all because nothing is left to do. */
export interface Start {
  config: RunnableConfig
  recovered: boolean
  finished: boolean
}

/** Decides how a job starts. The first time, it starts anew. */
export async function recover(
  job: Job,
  graph: Graph,
  saver: BaseCheckpointSaver<string>,
  config: RunnableConfig,
): Promise<Start> {
  if (job.attempt <= 1 && !job.begun) return { config, recovered: false, finished: false }
  const head = { configurable: { thread_id: job.thread_id, checkpoint_ns: '' } }
  const last = await saver.getTuple(head)
  if ((last?.metadata as Record<string, unknown> | undefined)?.run_id !== job.run_id || !last)
    return { config, recovered: false, finished: false }
  const { checkpoint_id: _, checkpoint_ns: __, checkpoint_map: ___, ...configurable } = config.configurable ?? {}
  const next = await nextNodes(graph, saver, head)
  return {
    config: { ...config, configurable },
    recovered: true,
    finished: next.length === 0 || (await atBreakpoint(job, saver, last, next)),
  }
}

// Tasks, not `next`: a task whose writes are stored but not yet applied has to be applied still.
async function nextNodes(graph: Graph, saver: unknown, config: RunnableConfig): Promise<string[]> {
  const configurable = { ...config.configurable, __pregel_checkpointer: saver }
  const { tasks } = await graph.getState({ ...config, configurable })
  return tasks.map((task) => task.name)
}

async function atBreakpoint(
  job: Job,
  saver: BaseCheckpointSaver<string>,
  last: CheckpointTuple,
  next: string[],
): Promise<boolean> {
  const { interrupt_before: before, interrupt_after: after } = job.args
  // A fork is written when a run goes on from an older checkpoint: its breakpoint is the one that is being left.
  if (matches(before, next) && last.metadata?.source !== 'fork') return true
  if (after === undefined || !last.parentConfig) return false
  const parent = await saver.getTuple(last.parentConfig)
  return matches(after, finishedBetween(parent, last))
}

const matches = (breakpoints: '*' | string[] | undefined, nodes: string[]): boolean =>
  breakpoints !== undefined && nodes.some((node) => breakpoints === '*' || breakpoints.includes(node))

// A node that ran between two checkpoints has seen newer channel versions.
function finishedBetween(parent: CheckpointTuple | undefined, last: CheckpointTuple): string[] {
  const seenBefore = parent?.checkpoint.versions_seen ?? {}
  return Object.entries(last.checkpoint.versions_seen)
    .filter(([node, seen]) => !node.startsWith('__') && JSON.stringify(seenBefore[node]) !== JSON.stringify(seen))
    .map(([node]) => node)
}
