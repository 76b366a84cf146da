// An executor made of the current instance and of those that end their last runs. In charge of which instance gets new
// work: through start, crash, reload and close there is always an answer, at once or when the next instance is there.

import { ApiError } from '../errors.ts'
import type { Observe } from '../observe.ts'
import type { Executor, RunHandle, RunSink } from './executor.ts'
import type { Host } from './host.ts'
import type { AbortReason, GraphStatus, Job, Outcome } from './protocol.ts'

/** A running executor: a child process, or its in-process twin. */
export interface Instance {
  host: Host
  pid: number | null
  /** Ends it, at the latest after a few seconds. */
  end(): Promise<void>
}

export interface PoolOptions {
  observe: Observe
  /** Starts an instance. `closed` is called once, when it is gone. */
  open(closed: (cause: string, runIds: string[]) => void): Instance
}

const MAX_DELAY = 5_000

/** Makes an executor of instances. */
export function createPool(mode: Executor['mode'], options: PoolOptions): Executor {
  const { observe } = options
  const instances = new Set<Instance>()
  const gone = new Set<Promise<void>>()
  let current: Promise<Instance> | undefined
  let serving: Instance | undefined
  let statuses: GraphStatus[] = []
  let closing = false
  let failures = 0

  // Resolves when the instance has loaded its graphs.
  const begin = async (): Promise<Instance> => {
    const began = performance.now()
    let isGone = () => {}
    const goes = new Promise<void>((resolve) => {
      isGone = resolve
    })
    gone.add(goes)
    const instance: Instance = options.open((cause, runIds) => {
      instances.delete(instance)
      gone.delete(goes)
      isGone()
      // An executor that was told to end is no news.
      if (!closing) observe({ kind: 'executor_exited', pid: instance.pid, cause, runs: runIds })
      if (serving === instance) replace()
    })
    instances.add(instance)
    const loaded = await instance.host.loaded
    const ms = Math.round(performance.now() - began)
    observe({ kind: 'executor_started', pid: instance.pid, ms })
    for (const { graph_id, error } of loaded) {
      if (error === undefined) observe({ kind: 'graph_loaded', graph_id, ms })
      else observe({ kind: 'graph_failed_to_load', graph_id, message: error })
    }
    statuses = loaded
    return instance
  }

  const serve = (instance: Instance): Instance => {
    serving = instance
    failures = 0
    return instance
  }

  // A crashed instance is followed by a new one at once; one that dies while it starts, after a growing pause.
  const replace = () => {
    serving = undefined
    if (closing) return
    const attempt = async (): Promise<Instance> => {
      for (;;) {
        if (failures > 0) await pause(Math.min(100 * 2 ** failures, MAX_DELAY))
        if (closing) throw new ApiError('shutting_down')
        failures++
        try {
          return serve(await begin())
        } catch {
          // Observed as `executor_exited`; runs and calls wait for one that stays.
        }
      }
    }
    current = attempt()
    current.catch(() => {})
  }

  const instance = (): Promise<Instance> =>
    closing || !current ? Promise.reject(new ApiError(closing ? 'shutting_down' : 'executor_unavailable')) : current

  return {
    mode,
    graphs: () => statuses,
    start: async () => {
      current = begin().then(serve)
      await current
      return statuses
    },
    run: (job, sink) => (serving ? serving.host.run(job, sink) : runLater(instance(), job, sink)),
    call: async (method, params) => (serving ?? (await instance())).host.call(method, params),
    reload: async () => {
      const old = serving
      const next = await begin()
      if (old === undefined || serving === old) {
        current = Promise.resolve(serve(next))
        old?.host.drain()
      } else {
        // Another one took over meanwhile, with the code as it was then: this one is newer.
        const overtaken = serving
        current = Promise.resolve(serve(next))
        overtaken?.host.drain()
      }
      return statuses
    },
    close: async () => {
      closing = true
      serving = undefined
      await Promise.all([...instances].map((each) => each.end()))
      await Promise.all(gone)
    },
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms).unref())

// A run that came while no instance was there.
function runLater(instance: Promise<Instance>, job: Job, sink: RunSink): RunHandle {
  let handle: RunHandle | undefined
  let aborted: AbortReason | undefined
  let settle: (outcome: Outcome) => void = () => {}
  const early = new Promise<Outcome>((resolve) => {
    settle = resolve
  })
  const started = instance.then(
    ({ host }): Promise<Outcome> | Outcome => {
      if (aborted) return { kind: 'aborted', reason: aborted }
      handle = host.run(job, sink)
      return handle.outcome
    },
    (error: Error): Outcome => ({ kind: 'crashed', cause: error.message }),
  )
  return {
    outcome: Promise.race([started, early]),
    abort: (reason) => {
      if (handle) return handle.abort(reason)
      aborted = reason
      settle({ kind: 'aborted', reason })
    },
  }
}
