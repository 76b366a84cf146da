// Runs a job: input and config in, events, checkpoints and one outcome out. Must never reject, whatever graph code throws,
// and must never call a run by anything but what ended it.

import { describe, stackOf } from './failure.ts'
import { finalState } from './final.ts'
import type { Graph } from './graph.ts'
import { RunAborted, type RunPort } from './guest.ts'
import { inputOf } from './input.ts'
import { followLatest } from './latest.ts'
import type { LoadedGraph } from './load.ts'
import type { FinalState, Job, Outcome } from './protocol.ts'
import { recover } from './recover.ts'
import { configOf } from './run-config.ts'
import { type CheckpointSink, createSaver, type Saver } from './saver.ts'
import { createStore } from './store.ts'
import type { StoredCheckpoint } from './stored.ts'
import { drive } from './stream.ts'
import type { ThreadMemory } from './thread-memory.ts'
import type { Tracing } from './tracing.ts'

type RunOutcome = Exclude<Outcome, { kind: 'crashed' }>

/** What ended a run early. */
type End = { kind: 'aborted'; reason: RunAborted } | { kind: 'thrown'; error: unknown } | undefined

/** Runs the job on the graph that `find` gives. */
export async function execute(
  find: () => LoadedGraph,
  job: Job,
  port: RunPort,
  tracing: Tracing,
  options: { apiUrl?: string; log?: (text: string) => void; memory?: ThreadMemory<StoredCheckpoint> } = {},
): Promise<RunOutcome> {
  const stop = new AbortController()
  const onAbort = () => stop.abort(port.signal.reason)
  port.signal.addEventListener('abort', onAbort, { once: true })
  let graph: Graph | undefined
  let saver: Saver | undefined
  let end: End
  const { thread_id: thread, epoch } = job
  const latest = followLatest(job.continues ? options.memory?.recall(thread, epoch) : undefined)
  try {
    const loaded = find()
    const store = createStore(loaded.langchain, port.storage, job.run_id)
    saver = createSaver({
      langchain: loaded.langchain,
      codec: loaded.codec,
      storage: latest.storage(port.storage),
      sink: latest.sink(sinkOf(job, port)),
      fresh: job.fresh,
      onFailure: (error) => stop.abort(error),
    })
    const { callbacks, feedback } = await tracing.of(job, loaded.langchain)
    const config = configOf(job, loaded.langchain, {
      saver: saver.checkpointer,
      store,
      signal: stop.signal,
      callbacks,
      ...(options.apiUrl === undefined ? {} : { apiUrl: options.apiUrl }),
    })
    const user = config.configurable?.langgraph_auth_user
    graph = await loaded.open(config, { accessContext: 'threads.create_run', user, store })
    const start = await recover(job, graph, saver.checkpointer, config)
    const input = start.recovered ? null : inputOf(job.args, loaded.langchain)
    if (!start.finished) await drive(graph, input, start.config, job, loaded.langchain, port)
    const urls = await feedback()
    if (urls !== undefined) await port.events([{ event: 'feedback', data: urls }])
    end = endOf(stop.signal)
  } catch (error) {
    end = endOf(stop.signal) ?? { kind: 'thrown', error }
  }
  port.ended()
  port.signal.removeEventListener('abort', onAbort)
  // Clients get the name and the message; where it was thrown is for whoever reads the log.
  if (end?.kind === 'thrown')
    options.log?.(`Run ${job.run_id} of graph "${job.graph_id}" failed: ${stackOf(end.error)}`)
  const outcome = outcomeOf(end, graph && saver ? await stateAfter(graph, job, saver) : undefined)
  options.memory?.keep(thread, epoch, outcome.kind === 'success' ? latest.stored() : undefined)
  return outcome
}

// What made the run stop counts, not the way in which the graph then ended.
function endOf(stop: AbortSignal): End {
  if (!stop.aborted) return undefined
  const reason: unknown = stop.reason
  return reason instanceof RunAborted ? { kind: 'aborted', reason } : { kind: 'thrown', error: reason }
}

interface StateRead {
  state?: FinalState
  error?: unknown
}

function outcomeOf(end: End, read: StateRead | undefined): RunOutcome {
  const known = read?.state ? { state: read.state } : {}
  if (end?.kind === 'aborted') return { kind: 'aborted', reason: end.reason.reason, ...known }
  if (end) return { kind: 'error', error: describe(end.error), ...known }
  return read?.state ? { kind: 'success', state: read.state } : { kind: 'error', error: describe(read?.error) }
}

async function stateAfter(graph: Graph, job: Job, saver: Saver): Promise<StateRead> {
  try {
    return { state: await finalState(graph, job, saver) }
  } catch (error) {
    return { error }
  }
}

function sinkOf(job: Job, port: RunPort): CheckpointSink {
  let last: ReturnType<RunPort['put']> | undefined
  const wait = (sent: ReturnType<RunPort['put']>): Promise<void> => {
    last = sent
    return job.args.durability === 'sync' ? sent.durable() : sent.room
  }
  return {
    put: (put) => wait(port.put(put)),
    writes: (writes) => wait(port.writes(writes)),
    settled: async () => last?.durable(),
  }
}
