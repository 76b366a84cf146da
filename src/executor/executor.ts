// The executor seam: where graph code runs. Two implementations (child process, inline) pass one suite; both speak the
// executor protocol, over a pipe and over direct calls.

import type { AbortReason, GraphStatus, GuestCalls, HostCalls, Job, Outcome, StreamEvent } from './protocol.ts'
import type { CheckpointPut, WritesPut } from './stored.ts'

/** Takes what a running graph produces, in order. A promise resolves when it is durable; rejections mean the run is no
 *  longer ours, and the executor stops it. */
export interface RunSink {
  events(events: StreamEvent[]): Promise<void>
  put(put: CheckpointPut): Promise<void>
  writes(writes: WritesPut): Promise<void>
}

export interface RunHandle {
  /** Never rejects. */
  readonly outcome: Promise<Outcome>
  /** Aborts the graph's signal; the outcome follows when the graph has stopped. */
  abort(reason: AbortReason): void
}

/** What graph code may read while it runs; served by the server, since executors have no database. */
export type Storage = {
  [M in keyof GuestCalls]: (params: GuestCalls[M]['params']) => Promise<GuestCalls[M]['value']>
}

export interface Executor {
  readonly mode: 'child' | 'inline'
  /** Loads every graph; rejects only if the executor itself cannot start. */
  start(): Promise<GraphStatus[]>
  /** The graphs as last loaded. */
  graphs(): readonly GraphStatus[]
  run(job: Job, sink: RunSink): RunHandle
  /** Throws `ApiError` for what the client can mend (graph_not_found, invalid_update, graph_load_failed …). */
  call<M extends keyof HostCalls>(method: M, params: HostCalls[M]['params']): Promise<HostCalls[M]['value']>
  /** Loads the graphs anew; runs that are under way end on the code they began with. */
  reload(): Promise<GraphStatus[]>
  close(): Promise<void>
}
