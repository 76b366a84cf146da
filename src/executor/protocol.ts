// The executor protocol: what the server and an executor say to each other. In charge of the message types and the
// version; docs/executor-protocol.md describes the same in prose. Holds no behaviour.

import type { Blob, CheckpointPut, LeaveOut, StoredCheckpoint, WritesPut } from './stored.ts'

export const PROTOCOL_VERSION = 1

/** A message: a JSON head and raw bytes. Where a body holds several values, the head holds their sizes, in order. */
export interface Frame<H> {
  head: H
  body?: Uint8Array
}

// ------------------------------------------------------------------------------------------------ what is run

/** One graph of langgraph.json; `path` is absolute, `export` the exported name. Inline executors may get `value`. */
export interface GraphSource {
  graph_id: string
  path?: string
  export?: string
  description?: string
  value?: unknown
}

/** What makes vectors of texts. `name` is how langgraph.json has it: `provider:model`, or a file's function, then with its
 *  absolute `path` and `export`. Inline executors may get `value`. */
export interface EmbedSource {
  name: string
  path?: string
  export?: string
  value?: unknown
}

/** What a graph's loading came to. `error` is one sentence with file and line where known. */
export interface GraphStatus {
  graph_id: string
  description: string | null
  error?: string
}

/** The parts of a run's request that the executor needs, as the client sent them (validated). */
export interface RunArguments {
  input?: unknown
  command?: { update?: unknown; resume?: unknown; goto?: unknown } | null
  config: { tags?: string[]; recursion_limit?: number; configurable?: Record<string, unknown>; [key: string]: unknown }
  context?: unknown
  checkpoint?: { checkpoint_id?: string; checkpoint_ns?: string; checkpoint_map?: Record<string, string> } | null
  stream_mode: string[]
  stream_subgraphs: boolean
  interrupt_before?: '*' | string[]
  interrupt_after?: '*' | string[]
  durability: 'sync' | 'async' | 'exit'
  strict_resume?: boolean
  feedback_keys?: string[]
  langsmith_tracer?: { project_name?: string; example_id?: string } | null
  /** Logged for readers of the thread protocol, too. */
  protocol?: 'v2'
}

/** A claimed run, ready to execute. */
export interface Job {
  run_id: string
  thread_id: string
  assistant_id: string
  graph_id: string
  /** 1 for the first attempt. Above 1, the run goes on from the last checkpoint it wrote, if it wrote one. */
  attempt: number
  /** True when it was begun before though this attempt is the first: it was given back uncharged. */
  begun?: boolean
  /** True when it is to run alone, because an executor died of it or of a run beside it. */
  suspect?: boolean
  args: RunArguments
  /** assistant ∪ thread ∪ run metadata; becomes `config.metadata` and so part of checkpoint metadata and traces. */
  metadata: Record<string, unknown>
  /** True when the thread has no checkpoint at all: the first read need not be asked for. */
  fresh: boolean
  /** Counts the holders of the thread. */
  epoch: number
  /** True when the thread's checkpoints are as the run of the epoch before left them, and all that it sent is stored. */
  continues: boolean
}

/** Why a run is stopped from outside; it is the `reason` of the graph's AbortSignal. */
export type AbortReason = 'cancel' | 'rollback' | 'timeout' | 'lease_lost' | 'shutdown'

/** What a run came to, as data. `state` is the thread's state afterwards, where one could be read. */
export type Outcome =
  | { kind: 'success'; state: FinalState<Text> }
  | { kind: 'error'; error: RunError; state?: FinalState<Text> }
  | { kind: 'aborted'; reason: AbortReason; state?: FinalState<Text> }
  | { kind: 'crashed'; cause: string; blame: Blame }

/** Whose doing it was that an executor died: this run's, because it was named or alone; that of one of several runs, and
 *  nobody knows which; or somebody else's. */
export type Blame = 'culprit' | 'suspect' | 'bystander'

/** An error as clients see it: the class name and the message (at most 8 KiB). */
export interface RunError {
  error: string
  message: string
  /** Of a strict answer that was refused: why, what it named, and what waits. */
  reason?: string
  interrupt_ids?: string[]
  pending_ids?: string[]
}

/** Text, or the pieces of its bytes in UTF-8 where it is only passed on. */
export type Text = string | readonly Uint8Array[]

/** `values` is JSON text in wire form; `interrupts` maps task ids to their open interrupts. */
export interface FinalState<Values extends Text = string> {
  values: Values
  next: string[]
  interrupts: Record<string, unknown[]>
  checkpoint_id: string | null
}

/** An event of a run's stream: the SSE event name and its data as JSON text. */
export interface StreamEvent {
  event: string
  readonly data: string
  /** A state, as its bytes: `data` is made of them when it is looked at. */
  readonly state?: readonly Uint8Array[]
  /** How it came of a state that was sent before. */
  readonly change?: StateChange
}

/** What changed in a state's bytes: how many stay at either end, and what stands between them now. */
export interface StateChange {
  before: readonly Uint8Array[]
  prefix: number
  suffix: number
  middle: Uint8Array
}

/** How a state is sent that is remembered for the next of its name: whole, or as what stands between what stays of the bytes of
 *  the one before. */
export interface StateHead {
  stays?: { prefix: number; suffix: number }
}

// ------------------------------------------------------------------------------------------------ calls

/** Calls the server makes; each answers with `value` (JSON) or, for the big ones, `text` (JSON text in wire form). */
export interface HostCalls {
  'graph.draw': { params: { graph_id: string; xray: boolean | number; config?: unknown }; value: unknown }
  'graph.schemas': { params: { graph_id: string; config?: unknown }; value: GraphSchemas }
  'graph.subgraphs': {
    params: { graph_id: string; namespace?: string; recurse: boolean; config?: unknown }
    value: Record<string, Omit<GraphSchemas, 'graph_id'>>
  }
  /** A ThreadState as JSON text; null where the checkpoint does not exist. */
  'state.get': {
    params: {
      graph_id: string
      thread_id: string
      config: StateConfig
      checkpoint?: CheckpointRef
      subgraphs: boolean
      select?: string[]
    }
    value: { text: string } | null
  }
  /** ThreadState[] as JSON text, newest first. */
  'state.history': {
    params: {
      graph_id: string
      thread_id: string
      config: StateConfig
      checkpoint?: CheckpointRef
      before?: CheckpointRef
      metadata?: Record<string, unknown>
      limit: number
      select?: string[]
    }
    value: { text: string }
  }
  /** Nothing is stored by the call: it gives what to store, so that the server can do it in one transaction. */
  'state.update': {
    params: {
      graph_id: string
      thread_id: string
      config: StateConfig
      checkpoint?: CheckpointRef
      metadata: Record<string, unknown>
      supersteps: { updates: { values?: unknown; command?: RunArguments['command']; as_node?: string }[] }[]
    }
    value: {
      checkpoint: CheckpointRef & { thread_id: string }
      puts: CheckpointPut[]
      writes: WritesPut[]
      state: FinalState
    }
  }
  /** Vectors of `dims` numbers: of the documents, then of the queries. Without any texts it only loads the source. */
  embed: {
    params: { source: Omit<EmbedSource, 'value'>; dims: number; documents: string[]; queries: string[] }
    value: { vectors: Float32Array[] }
  }
}

/** assistant and thread config merged, for graphs made by a factory. */
export interface StateConfig {
  configurable?: Record<string, unknown>
  [key: string]: unknown
}

export interface CheckpointRef {
  checkpoint_id?: string
  checkpoint_ns?: string
  checkpoint_map?: Record<string, string>
}

export interface GraphSchemas {
  graph_id: string
  input_schema: unknown
  output_schema: unknown
  state_schema: unknown
  config_schema: unknown
  context_schema: unknown
}

/** Calls the executor makes while it works for a run or a host call. */
export interface GuestCalls {
  /** The named or (without id) the latest checkpoint of a namespace. */
  'checkpoint.get': {
    params: { thread_id: string; checkpoint_ns: string; checkpoint_id?: string; leave_out?: LeaveOut }
    value: StoredCheckpoint | null
  }
  'checkpoint.list': {
    params: {
      thread_id: string
      checkpoint_ns?: string
      checkpoint_id?: string
      before?: string
      limit?: number
      metadata?: Record<string, unknown>
      /** Asks for one checkpoint (the latest of the namespace without an id) and its ancestors, back to where each of
       *  these channels has a value, with the values and writes of these channels alone. */
      history_of?: string[]
      leave_out?: LeaveOut
    }
    value: StoredCheckpoint[]
  }
  /** LangGraph store operations in order; one result each. */
  'store.batch': { params: { run_id?: string; ops: StoreOp[] }; value: unknown[] }
}

export type StoreOp =
  | { op: 'get'; namespace: string[]; key: string; refresh_ttl?: boolean }
  | {
      op: 'put'
      namespace: string[]
      key: string
      value: Record<string, unknown> | null
      index?: false | string[]
      ttl?: number | null
    }
  | {
      op: 'search'
      namespace_prefix: string[]
      filter?: Record<string, unknown>
      limit: number
      offset: number
      query?: string
      refresh_ttl?: boolean
    }
  | { op: 'namespaces'; prefix?: string[]; suffix?: string[]; max_depth?: number; limit: number; offset: number }

// ------------------------------------------------------------------------------------------------ messages

/** A blob in a head: its bytes are in the body, in the order in which the blobs stand in the head. */
export interface BlobHead {
  type: string
  size: number
}

/** A checkpoint put, or a stored checkpoint, whose blobs are in the body. */
export type Packed<T> = {
  [K in keyof T]: T[K] extends { blob: Blob }[] ? (Omit<T[K][number], 'blob'> & { blob: BlobHead })[] : T[K]
}

/** Why a call failed: an `ApiError` code and sentence, so that the same error reaches the client. */
export interface CallError {
  code: string
  message: string
}

/** The server acknowledges what nobody awaits when it comes to so many bytes, or to so many frames. */
export const ACK_BYTES = 256 * 1024
export const ACK_FRAMES = 128

/** What the server sends. `run` is a number the server chose for one execution; `call` one the caller chose. */
export type HostMessage =
  | { type: 'welcome'; protocol: number; graphs: Omit<GraphSource, 'value'>[]; project_dir: string | null }
  /** `state`: the state that the run of the epoch before left in this executor is remembered. */
  | { type: 'run'; run: number; job: Job; state?: boolean }
  /** Every frame of the run up to `seq` is durable (put, writes) or safely kept (events). Comes when `await` asked for it, and
   *  else only now and then: see `ACK_BYTES`. */
  | { type: 'ack'; run: number; seq: number }
  | { type: 'abort'; run: number; reason: AbortReason }
  | { type: 'call'; call: number; method: keyof HostCalls; params: unknown }
  | { type: 'result'; call: number; value: unknown }
  | { type: 'failure'; call: number; error: CallError }
  | { type: 'ping'; call: number }
  /** No more runs or calls will come: exit when those under way have ended. */
  | { type: 'drain' }

/** What the executor sends. Frames of one run carry `seq`, from 1, without gaps. */
export type GuestMessage =
  | { type: 'hello'; protocol: number; executor: string; pid: number | null }
  | { type: 'loaded'; graphs: GraphStatus[] }
  /** The body holds the data of the events, one line each. `states` says which of them are states, and what their line is;
   *  then `size` is what the body stands for, and counts in its place. */
  | {
      type: 'events'
      run: number
      seq: number
      events: string[]
      states?: ({ at: number } & StateHead)[]
      size?: number
    }
  | { type: 'put'; run: number; seq: number; put: Packed<CheckpointPut> }
  | { type: 'writes'; run: number; seq: number; writes: Packed<WritesPut> }
  /** Asks for the `ack` of that frame as soon as it is due. */
  | { type: 'await'; run: number; seq: number }
  /** The run's last frame. `state.values` is the body, which is sent as a state with the name `values` where `state` is there. */
  | { type: 'outcome'; run: number; outcome: Exclude<Outcome, { kind: 'crashed' }>; state?: StateHead }
  /** Something that the run began failed outside of its graph. The run is being stopped; its outcome follows. */
  | { type: 'crashed'; run: number; cause: string }
  | { type: 'call'; call: number; method: keyof GuestCalls; params: unknown }
  | { type: 'result'; call: number; value: unknown }
  | { type: 'failure'; call: number; error: CallError }
  | { type: 'pong'; call: number }
  | { type: 'log'; text: string }
