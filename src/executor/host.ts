// The server's end of the protocol, for one executor over one link. In charge of handing runs' frames to their sinks in
// order, acknowledging them, and serving storage; must survive whatever the other end does.

import { ApiError } from '../errors.ts'
import { answer, createCalls } from './calls.ts'
import type { RunHandle, RunSink, Storage } from './executor.ts'
import type { Link } from './link.ts'
import { Unpacker } from './pack.ts'
import {
  type AbortReason,
  ACK_BYTES,
  ACK_FRAMES,
  type Blame,
  type Frame,
  type GraphSource,
  type GraphStatus,
  type GuestMessage,
  type HostCalls,
  type HostMessage,
  type Job,
  type Outcome,
  PROTOCOL_VERSION,
} from './protocol.ts'
import { createReceivedStates, createStateReceiver, type StateReceiver } from './states.ts'

export type HostLink = Link<HostMessage, GuestMessage>

/** One executor behind one link. */
export interface Host {
  /** Resolves when the graphs are loaded; rejects when the link closes before that or the versions do not match. */
  readonly loaded: Promise<GraphStatus[]>
  run(job: Job, sink: RunSink): RunHandle
  call<M extends keyof HostCalls>(method: M, params: HostCalls[M]['params']): Promise<HostCalls[M]['value']>
  /** How many runs have no outcome yet. */
  readonly load: number
  /** The ids of the graphs that these are runs of. */
  graphIds(): string[]
  /** Tells the executor that no more work will come; it closes the link when it has none left. */
  drain(): void
  close(): void
}

/** A running executor: a child process, or its in-process twin. */
export interface Instance {
  host: Host
  pid: number | null
  /** Ends it, at the latest after a few seconds. */
  end(): Promise<void>
}

/** Why an executor is gone. `run` or `call` name whose doing it was, `none` says that it was none of those that are left. */
export interface Ending {
  cause: string
  run?: number
  call?: number
  none?: boolean
}

export interface HostOptions {
  graphs: GraphSource[]
  projectDir: string | null
  storage: Storage
  log(text: string): void
  /** The link has closed: the executor takes no more work. */
  lost(): void
  /** Why the link closed, for the outcome of the runs that crashed with it. Asked once, after it closed. */
  cause(error: Error | undefined): Promise<Ending>
  closed(cause: string, runIds: string[]): void
  /** A run was told to stop, and has not: the executor is of no more use. */
  hung(): void
  /** How long an aborted run may take to stop, in milliseconds. */
  abortGrace?: number
}

const ABORT_GRACE = 10_000

interface Running {
  job: Job
  sink: RunSink
  settle(outcome: Outcome): void
  /** Frames that are not done yet, and those behind them, in order. */
  frames: RunningFrame[]
  /** What is done and not acknowledged. */
  unacked: { frames: number; bytes: number }
  /** The last frame that is done with all before it. */
  doneSeq: number
  /** Frames that the executor waits for, in order. */
  awaited: number[]
  lost: boolean
  states: StateReceiver
  /** What it began failed outside of its graph; it is being stopped. */
  crash?: string
  timer?: NodeJS.Timeout
}

interface RunningFrame {
  seq: number
  bytes: number
  done: boolean
}

/** Speaks the protocol with the executor at the other end of `link`. */
export function createHost(link: HostLink, options: HostOptions): Host {
  const runs = new Map<number, Running>()
  const calls = createCalls(link as never)
  const states = createReceivedStates()
  let next = 1
  let open = true
  let ending = false
  let stuck = false
  let ready: (graphs: GraphStatus[]) => void = () => {}
  let failed: (error: Error) => void = () => {}
  const loaded = new Promise<GraphStatus[]>((resolve, reject) => {
    ready = resolve
    failed = reject
  })
  loaded.catch(() => {})

  const finish = (id: number, outcome: Outcome) => {
    const run = runs.get(id)
    if (!run) return
    runs.delete(id)
    clearTimeout(run.timer)
    // What the graph made of a run that was lost meanwhile, or that crashed, is nobody's business any more.
    if (run.crash !== undefined) run.settle({ kind: 'crashed', cause: run.crash, blame: 'culprit' })
    else run.settle(run.lost && outcome.kind !== 'crashed' ? { kind: 'aborted', reason: 'lease_lost' } : outcome)
  }
  const expectEnd = (id: number, run: Running, reason: AbortReason) => {
    run.timer ??= setTimeout(() => {
      stuck = true
      finish(id, { kind: 'aborted', reason })
      options.hung()
    }, options.abortGrace ?? ABORT_GRACE)
  }
  const abort = (id: number, reason: AbortReason) => {
    const run = runs.get(id)
    if (!run || run.timer) return
    link.send({ type: 'abort', run: id, reason })
    expectEnd(id, run, reason)
  }
  const crash = (id: number, cause: string) => {
    const run = runs.get(id)
    if (!run) return
    run.crash = cause
    // The executor stops it by itself.
    expectEnd(id, run, 'lease_lost')
  }
  const outcomeOf = ({ run: id, outcome, state }: GuestMessage & { type: 'outcome' }, body: Uint8Array): Outcome => {
    const run = runs.get(id)
    if (run === undefined || run.lost) return outcome
    if (outcome.state) outcome.state.values = run.states.unpackLast(body, state)
    states.keep(run.job.thread_id, run.job.epoch, outcome.kind === 'success' ? run.states.last() : undefined)
    return outcome
  }
  const sink = createSinks(link, runs, (id) => abort(id, 'lease_lost'))

  const welcome = (protocol: number) => {
    if (protocol !== PROTOCOL_VERSION) {
      failed(new Error(`The executor speaks version ${protocol} of the protocol; this server ${PROTOCOL_VERSION}.`))
      return link.close()
    }
    const graphs = options.graphs.map(({ value: _, ...source }) => source)
    link.send({ type: 'welcome', protocol: PROTOCOL_VERSION, graphs, project_dir: options.projectDir })
  }

  link.onFrame(({ head, body }: Frame<GuestMessage>) => {
    switch (head.type) {
      case 'hello':
        return welcome(head.protocol)
      case 'loaded':
        return ready(head.graphs)
      case 'events':
      case 'put':
      case 'writes':
        return sink.take(head, body)
      case 'await':
        return sink.awaits(head.run, head.seq)
      case 'crashed':
        return crash(head.run, head.cause)
      case 'outcome':
        return finish(head.run, outcomeOf(head, body ?? NO_BYTES))
      case 'call':
        return void answer(link as never, head.call, head.method, () => serve(options.storage, head))
      case 'result':
      case 'failure':
        return calls.settle(head, body)
      case 'log':
        return options.log(head.text)
    }
  })
  link.onClose(async (error) => {
    open = false
    const ids = [...runs.values()].map((run) => run.job.run_id)
    const alone = runs.size === 1 && calls.size === 0 && !stuck
    options.lost()
    const gone = await options.cause(error)
    const { cause } = gone
    calls.abandon(new ApiError('executor_unavailable', `The executor is gone: ${cause}. Try again.`))
    failed(new ApiError('executor_unavailable', `The executor did not start: ${cause}.`))
    for (const id of [...runs.keys()]) finish(id, { kind: 'crashed', cause, blame: blame(gone, id, alone) })
    options.closed(cause, ids)
  })

  const blame = (gone: Ending, id: number, alone: boolean): Blame => {
    if (gone.run === id) return 'culprit'
    if (ending || gone.run !== undefined || gone.call !== undefined || gone.none) return 'bystander'
    return alone ? 'culprit' : 'suspect'
  }

  return {
    loaded,
    get load() {
      return runs.size
    },
    graphIds: () => [...new Set([...runs.values()].map((run) => run.job.graph_id))],
    run: (job, sink) => {
      const id = next++
      const outcome = new Promise<Outcome>((settle) => {
        if (!open) return settle(goneBefore)
        const before = states.recall(job.thread_id, job.epoch)
        runs.set(id, { job, sink, settle, ...nothingYet(), lost: false, states: createStateReceiver(before) })
        link.send({ type: 'run', run: id, job, ...(before && { state: true }) })
        // Whoever asked for the run is answered in the same turn; the executor need not wait for that.
        link.flush()
      })
      return { outcome, abort: (reason) => abort(id, reason) }
    },
    call: (method, params) =>
      open
        ? (calls.make(method, params) as Promise<never>)
        : Promise.reject(new ApiError('executor_unavailable', 'The executor is starting anew. Try again.')),
    drain: () => link.send({ type: 'drain' }),
    close: () => {
      ending = true
      link.close()
    },
  }
}

const goneBefore: Outcome = {
  kind: 'crashed',
  cause: 'found the executor gone before it began',
  blame: 'bystander',
}

const serve = (storage: Storage, head: GuestMessage & { type: 'call' }): Promise<unknown> => {
  const method = Object.hasOwn(storage, head.method) ? storage[head.method] : undefined
  if (!method) throw new ApiError('not_supported', `The server has no method "${String(head.method)}" for executors.`)
  return (method as (params: unknown) => Promise<unknown>)(head.params)
}

const NO_BYTES: Uint8Array = new Uint8Array(0)

type RunFrame = GuestMessage & { type: 'events' | 'put' | 'writes' }

const sizeOf = (head: RunFrame, body = NO_BYTES): number =>
  head.type === 'events' ? (head.size ?? body.length) : body.length

const nothingYet = (): Pick<Running, 'frames' | 'unacked' | 'doneSeq' | 'awaited'> => ({
  frames: [],
  unacked: { frames: 0, bytes: 0 },
  doneSeq: 0,
  awaited: [],
})

/** Hands frames to sinks and acknowledges what is done; a sink that rejects means that the run is lost. */
function createSinks(link: HostLink, runs: Map<number, Running>, lose: (id: number) => void) {
  // Each one wakes the executor up, and few are needed: a run with a handful of frames has none.
  const acknowledge = (id: number, run: Running) => {
    const { unacked, doneSeq, awaited } = run
    const isAwaited = awaited[0] !== undefined && awaited[0] <= doneSeq
    if (!isAwaited && unacked.bytes < ACK_BYTES && unacked.frames < ACK_FRAMES) return
    run.awaited = awaited.filter((seq) => seq > doneSeq)
    run.unacked = { frames: 0, bytes: 0 }
    if (runs.get(id) === run) link.send({ type: 'ack', run: id, seq: doneSeq })
  }
  const done = (id: number, run: Running, frame: RunningFrame) => {
    frame.done = true
    while (run.frames[0]?.done) {
      const { seq, bytes } = run.frames.shift() as RunningFrame
      run.doneSeq = seq
      run.unacked.frames++
      run.unacked.bytes += bytes
    }
    acknowledge(id, run)
  }
  return {
    awaits: (id: number, seq: number) => {
      const run = runs.get(id)
      if (!run) return
      run.awaited.push(seq)
      acknowledge(id, run)
    },
    take: (head: RunFrame, body?: Uint8Array) => {
      const run = runs.get(head.run)
      if (!run) return
      const frame = { seq: head.seq, bytes: sizeOf(head, body), done: false }
      run.frames.push(frame)
      // Frames of a lost run go nowhere, but are acknowledged, so that it can end.
      if (run.lost) return done(head.run, run, frame)
      deliver(run, head, body).then(
        () => done(head.run, run, frame),
        () => {
          if (!run.lost) lose(head.run)
          run.lost = true
          done(head.run, run, frame)
        },
      )
    },
  }
}

async function deliver({ sink, states }: Running, head: RunFrame, body: Uint8Array = NO_BYTES): Promise<void> {
  switch (head.type) {
    case 'events':
      return sink.events(states.unpack(head, body))
    case 'put':
      return sink.put(new Unpacker(body).put(head.put))
    case 'writes':
      return sink.writes(new Unpacker(body).writes(head.writes))
  }
}
