// The executor's end of the protocol. In charge of messages, flow control and the order of a run's frames; leaves loading
// and running graphs to the runtime. Must never let one run's failure reach another.

import { messageOf } from '../errors.ts'
import { answer, createCalls } from './calls.ts'
import type { Storage } from './executor.ts'
import { describe } from './failure.ts'
import type { Link } from './link.ts'
import { Packer } from './pack.ts'
import {
  type AbortReason,
  type Frame,
  type GraphStatus,
  type GuestMessage,
  type HostCalls,
  type HostMessage,
  type Job,
  type Outcome,
  PROTOCOL_VERSION,
  type StreamEvent,
} from './protocol.ts'
import { createSentStates, createStateSender, type StateSender } from './states.ts'
import type { CheckpointPut, WritesPut } from './stored.ts'

/** What a run may have unacknowledged before it has to wait, in bytes. */
export const WINDOW = 1024 * 1024

/** How a run reaches the server. Frames leave in the order of the calls. */
export interface RunPort {
  readonly storage: Storage
  readonly signal: AbortSignal
  /** Resolves when there is room for more. `now` does not wait for the end of this turn of the event loop. */
  events(events: StreamEvent[], options?: { now: boolean }): Promise<void>
  put(put: CheckpointPut): Sent
  writes(writes: WritesPut): Sent
  /** The graph has come to its end: what fails from now on is too late to change that. */
  ended(): void
}

export interface Sent {
  readonly room: Promise<void>
  /** Asks the server to say so. */
  durable(): Promise<void>
}

/** What loads and runs graphs. */
export interface Runtime {
  load(graphs: (HostMessage & { type: 'welcome' })['graphs'], projectDir: string | null): Promise<GraphStatus[]>
  /** Never rejects. */
  execute(job: Job, port: RunPort): Promise<Exclude<Outcome, { kind: 'crashed' }>>
  call<M extends keyof HostCalls>(
    method: M,
    params: HostCalls[M]['params'],
    storage: Storage,
  ): Promise<HostCalls[M]['value']>
  /** Ends what it has started. */
  close(): Promise<void>
}

/** Why a run was stopped from outside: the reason of the signal that graph code sees. */
export class RunAborted extends Error {
  override readonly name = 'RunAborted'
  readonly reason: AbortReason
  constructor(reason: AbortReason) {
    super(`The run was stopped: ${reason}.`)
    this.reason = reason
  }
}

/** Something that a run began failed outside of its graph: the reason of the signal that graph code sees. */
export class RunCrashed extends Error {
  override readonly name = 'RunCrashed'
  constructor(cause: string) {
    super(`The run ${cause}.`)
  }
}

/** What code works for: a run or a call, by its number. */
export type Work = { run: number } | { call: number }

export interface Guest {
  log(text: string): void
  /** Ends a run because of a failure outside of its graph; false when there is nothing left to end. */
  crash(work: Work | undefined, cause: string): boolean
}

export interface GuestOptions {
  executor: string
  pid: number | null
  ended(): void
  /** Calls `work` so that whatever it begins can be traced to it. */
  within?<T>(what: Work, work: () => T): T
}

interface Running {
  over: boolean
  controller: AbortController
  acked(seq: number): void
}

/** Serves `runtime` over `link` until the link closes; then calls `ended`. */
export function createGuest(link: Link<GuestMessage, HostMessage>, runtime: Runtime, options: GuestOptions): Guest {
  const within = options.within ?? ((_, work) => work())
  const runs = new Map<number, Running>()
  const calls = createCalls(link as never)
  const storage = storageOver(calls.make)
  let answering = 0
  let draining = false
  const endIfIdle = () => {
    if (draining && runs.size === 0 && answering === 0) link.close()
  }

  const states = createSentStates()

  const start = async (run: number, job: Job, isStateKnown: boolean) => {
    const controller = new AbortController()
    const { thread_id: thread, epoch } = job
    const sender = createStateSender(isStateKnown ? states.recall(thread, epoch) : undefined)
    const running: Running = { controller, over: false, acked: () => {} }
    const base = { storage, signal: controller.signal, ended: () => over(running) }
    const { port, acked } = createPort(link, run, base, sender)
    running.acked = acked
    runs.set(run, running)
    const outcome = await within({ run }, () => runtime.execute(job, port))
    try {
      sendOutcome(link, run, outcome, sender)
    } catch (error) {
      // Larger than any frame.
      sendOutcome(link, run, { kind: 'error', error: describe(error) }, sender)
    }
    states.keep(thread, epoch, outcome.kind === 'success' ? sender.last() : undefined)
    runs.delete(run)
    endIfIdle()
  }
  const serve = async (message: HostMessage & { type: 'call' }) => {
    answering++
    await answer(link as never, message.call, message.method, () =>
      within({ call: message.call }, () => runtime.call(message.method, message.params as never, storage)),
    )
    answering--
    endIfIdle()
  }

  link.onFrame(({ head, body }: Frame<HostMessage>) => {
    switch (head.type) {
      case 'welcome':
        runtime.load(head.graphs, head.project_dir).then(
          (graphs) => link.send({ type: 'loaded', graphs }),
          (error) => link.send({ type: 'log', text: `Loading failed: ${messageOf(error)}` }),
        )
        break
      case 'run':
        void start(head.run, head.job, head.state === true)
        break
      case 'ack':
        runs.get(head.run)?.acked(head.seq)
        break
      case 'abort':
        runs.get(head.run)?.controller.abort(new RunAborted(head.reason))
        break
      case 'call':
        void serve(head)
        break
      case 'result':
      case 'failure':
        calls.settle(head, body)
        break
      case 'ping':
        link.send({ type: 'pong', call: head.call })
        break
      case 'drain':
        draining = true
        endIfIdle()
        break
    }
  })
  link.onClose(() => {
    calls.abandon(new Error('The server is gone.'))
    for (const { controller } of runs.values()) controller.abort(new RunAborted('lease_lost'))
    void runtime.close().finally(options.ended)
  })
  link.send({ type: 'hello', protocol: PROTOCOL_VERSION, executor: options.executor, pid: options.pid })
  return {
    log: (text) => link.send({ type: 'log', text }),
    crash: (work, cause) => {
      const running = work && 'run' in work ? runs.get(work.run) : undefined
      // What is being stopped may leave promises that reject.
      if (!work || !('run' in work) || !running || running.over || running.controller.signal.aborted) return false
      link.send({ type: 'crashed', run: work.run, cause })
      running.controller.abort(new RunCrashed(cause))
      return true
    },
  }
}

const over = (running: Running): void => {
  running.over = true
}

const storageOver = (make: (method: keyof Storage, params: unknown) => Promise<unknown>): Storage => ({
  'checkpoint.get': (params) => make('checkpoint.get', params) as never,
  'checkpoint.list': (params) => make('checkpoint.list', params) as never,
  'store.batch': (params) => make('store.batch', params) as never,
})

function sendOutcome(
  link: Link<GuestMessage, HostMessage>,
  run: number,
  outcome: Exclude<Outcome, { kind: 'crashed' }>,
  sender: StateSender,
): void {
  const last = outcome.state && sender.packLast(outcome.state.values as string)
  const head = outcome.state ? { ...outcome, state: { ...outcome.state, values: '' } } : outcome
  link.send({ type: 'outcome', run, outcome: head as never, ...(last?.state && { state: last.state }) }, last?.body)
}

function createPort(
  link: Link<GuestMessage, HostMessage>,
  run: number,
  base: Pick<RunPort, 'storage' | 'signal' | 'ended'>,
  sender: StateSender,
): { port: RunPort; acked(seq: number): void } {
  const unacked: { seq: number; size: number; durable?: Promise<void>; resolve?: () => void }[] = []
  let bytes = 0
  let seq = 0
  let waiting: (() => void)[] = []
  const open = Promise.resolve()
  const room = () => (bytes <= WINDOW ? open : new Promise<void>((resolve) => waiting.push(resolve)))
  const release = () => {
    const released = waiting
    waiting = []
    for (const resolve of released) resolve()
  }
  const sent = (size: number): Sent => {
    const frame: (typeof unacked)[number] = { seq, size }
    unacked.push(frame)
    bytes += size
    return {
      get room() {
        return room()
      },
      durable: () => {
        if (unacked[0] === undefined || unacked[0].seq > frame.seq) return open
        frame.durable ??= new Promise<void>((resolve) => {
          frame.resolve = resolve
          link.send({ type: 'await', run, seq: frame.seq })
        })
        return frame.durable
      },
    }
  }
  return {
    port: {
      ...base,
      events: (events, options) => {
        const { body, size, states } = sender.pack(events)
        const names = events.map((event) => event.event)
        try {
          link.send({ type: 'events', run, seq: ++seq, events: names, ...(states && { states, size }) }, body)
        } catch (error) {
          sender.forget()
          throw error
        }
        if (options?.now) link.flush()
        // The server holds whole what is sent in part.
        return sent(size).room
      },
      put: (put) => {
        const packer = new Packer()
        const packed = packer.put(put)
        const body = packer.body()
        link.send({ type: 'put', run, seq: ++seq, put: packed }, body)
        return sent(body?.length ?? 0)
      },
      writes: (writes) => {
        const packer = new Packer()
        const packed = packer.writes(writes)
        const body = packer.body()
        link.send({ type: 'writes', run, seq: ++seq, writes: packed }, body)
        return sent(body?.length ?? 0)
      },
    },
    acked: (upTo) => {
      while (unacked[0] && unacked[0].seq <= upTo) {
        const frame = unacked.shift()
        bytes -= frame?.size ?? 0
        frame?.resolve?.()
      }
      if (bytes <= WINDOW) release()
    },
  }
}
