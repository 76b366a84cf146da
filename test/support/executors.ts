// Executors under test, both kinds, over checkpoints in memory.

import { fileURLToPath } from 'node:url'
import { type ChildExecutorOptions, createChildExecutor } from '../../src/executor/child-process.ts'
import type { Executor, RunSink } from '../../src/executor/executor.ts'
import { createInlineExecutor } from '../../src/executor/inline.ts'
import type { GraphSource, Job, Outcome, RunArguments, StreamEvent } from '../../src/executor/protocol.ts'
import type { Observation } from '../../src/observe.ts'
import { textOf } from '../../src/pieces.ts'
import { createMemoryStorage, createRecordingSink, type MemoryStorage } from './memory-storage.ts'

export const GRAPHS = fileURLToPath(new URL('./graphs/agents.ts', import.meta.url))
export const PROJECT = fileURLToPath(new URL('./graphs', import.meta.url))

/** Sources for exports of the fixture file; the graph id is the export's name. */
export const sources = (...names: string[]): GraphSource[] =>
  names.map((name) => ({ graph_id: name, path: GRAPHS, export: name }))

export interface Bench {
  executor: Executor
  memory: MemoryStorage
  observations: Observation[]
  /** Runs a job to its end. */
  run(
    graphId: string,
    args?: Partial<RunArguments>,
    more?: Partial<Job>,
  ): Promise<{ outcome: Outcome; events: StreamEvent[] }>
  job(graphId: string, args?: Partial<RunArguments>, more?: Partial<Job>): Job
  sink(): RunSink & { readonly seen: StreamEvent[] }
}

/** Starts an executor of the kind. */
export async function startBench(
  mode: Executor['mode'],
  graphs: GraphSource[],
  more: Partial<ChildExecutorOptions> = {},
): Promise<Bench> {
  const memory = createMemoryStorage()
  const observations: Observation[] = []
  const options = {
    graphs,
    projectDir: PROJECT,
    storage: memory.storage,
    observe: (observation: Observation) => void observations.push(observation),
    abortGrace: 1_000,
  }
  const executor =
    mode === 'child' ? createChildExecutor({ ...options, env: process.env, ...more }) : createInlineExecutor(options)
  await executor.start()
  const sink = () => createRecordingSink(memory)
  const run: Bench['run'] = async (graphId, args, more) => {
    const into = sink()
    const outcome = await executor.run(job(graphId, args, more), into).outcome
    return { outcome, events: into.seen }
  }
  return { executor, memory, observations, run, job, sink }
}

function job(graph_id: string, args: Partial<RunArguments> = {}, more: Partial<Job> = {}): Job {
  return {
    run_id: crypto.randomUUID(),
    thread_id: crypto.randomUUID(),
    assistant_id: '11111111-1111-4111-8111-111111111111',
    graph_id,
    attempt: 1,
    metadata: {},
    epoch: 1,
    continues: false,
    fresh: more.thread_id === undefined,
    ...more,
    args: { config: {}, stream_mode: [], stream_subgraphs: false, durability: 'async', ...args },
  }
}

/** The events of one name, parsed. */
export const dataOf = (events: StreamEvent[], name: string): unknown[] =>
  events.filter(({ event }) => event === name).map(({ data }) => JSON.parse(data))

/** The values of an outcome's state, parsed. */
export function valuesOf(outcome: Outcome): unknown {
  if (outcome.kind === 'crashed' || !outcome.state) throw new Error(`no state: ${JSON.stringify(outcome)}`)
  return JSON.parse(textOf(outcome.state.values))
}
