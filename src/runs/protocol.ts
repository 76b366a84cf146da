// The events of the thread protocol (v2): their numbers, and the form in which clients get them. Knows neither transports nor
// the log.

/** One event of the log may become several of the protocol: each place in the log has room for so many. */
const ROOM = 10_000

/** The number of the `index`-th event made from the event at a place in the log. */
export const seqOf = (logSeq: number, index: number): number => logSeq * ROOM + index

/** The place in the log of what an event was made from. */
export const logSeqOf = (seq: number): number => Math.floor(seq / ROOM)

/** `meta.applied_through_seq`: the last number there can be up to a place in the log. */
export const appliedThrough = (logSeq: number): number => (logSeq <= 0 ? 0 : seqOf(logSeq, ROOM - 1))

/** How many events may be made from one. */
export const MAX_PARTS = ROOM

/** An event before it has its number. */
export interface Draft {
  method: string
  namespace: readonly string[]
  /** True where the last segment is the task that spoke rather than a graph: who reaches the task's graph hears it there. */
  inTask?: boolean
  /** True where clients tell the task that spoke from its graph: it is heard in the graph only by who does not reach the task. */
  apart?: boolean
  /** JSON of `params` without its namespace, as `{"timestamp":…,"data":…}`. */
  params: string
  /** The channel, where it is not called like the method. */
  channel?: string
  /** True for what asks for input: it is not told again once a later run began. */
  asks?: boolean
  /** For how the run stands, which the server itself tells. */
  ofRun?: boolean
}

/** An event as it can be sent. */
export interface ThreadEvent extends Draft {
  seq: number
  run_id: string
}

/** The id: unique in its thread. Clients take the run's id from those that tell how a run stands. */
export const idOf = ({ ofRun, run_id, seq }: ThreadEvent): string => (ofRun ? `synth:${run_id}:${seq}` : String(seq))

/** The event as JSON text. */
export function frameOf(event: ThreadEvent, namespace: readonly string[] = event.namespace): string {
  const { seq, method, params } = event
  return `{"type":"event","event_id":"${idOf(event)}","seq":${seq},"method":"${method}","params":{"namespace":${JSON.stringify(namespace)},${params.slice(1)}}`
}
