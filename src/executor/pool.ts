// An executor made of several instances that share the runs. In charge of which instance gets new work: through start,
// crash, reload and close there is always an answer, at once or when the next instance is there.

import { ApiError } from '../errors.ts'
import type { Observe } from '../observe.ts'
import type { Executor } from './executor.ts'
import type { Host, Instance } from './host.ts'
import { type Lent, runLater } from './later.ts'
import type { GraphStatus } from './protocol.ts'
import { createQuarantine } from './quarantine.ts'

/** What an instance tells of its end, each once. */
export interface Ends {
  /** It takes no more work. */
  lost(): void
  /** It is gone. */
  closed(cause: string, runIds: string[]): void
}

export interface PoolOptions {
  observe: Observe
  /** How many instances share the runs. */
  size: number
  /** How many more there may be that run a suspect each; without any, suspects run beside others. */
  quarantine: number
  /** Starts an instance. */
  open(ends: Ends): Instance
}

interface Member {
  instance: Instance
  /** Counts reloads: with which of them its code was read. */
  generation: number
  began: number
}

const MAX_DELAY = 5_000
/** An instance that ends sooner, and with nothing to do, ends of itself. */
const EARLY_MS = 1_000

/** Makes an executor of instances. */
export function createPool(mode: Executor['mode'], options: PoolOptions): Executor {
  const { observe } = options
  const instances = new Set<Instance>()
  const live = new Set<Instance>()
  const gone = new Set<Promise<void>>()
  const serving: Member[] = []
  const waiting: { resolve(): void; reject(error: Error): void }[] = []
  let statuses: GraphStatus[] = []
  let latest = 0
  let noted = -1
  let filling = 0
  let failures = 0
  let isStarted = false
  let closing = false
  const quarantine = createQuarantine({ limit: options.quarantine, begin: insistOnNew })

  // Resolves when the instance has loaded its graphs.
  const begin = async (): Promise<Member> => {
    const began = performance.now()
    const generation = latest
    let isGone = () => {}
    const goes = new Promise<void>((resolve) => {
      isGone = resolve
    })
    gone.add(goes)
    const instance: Instance = options.open({
      lost: () => lose(instance),
      closed: (cause, runs) => {
        instances.delete(instance)
        gone.delete(goes)
        isGone()
        // An executor that was told to end is no news.
        if (!closing) observe({ kind: 'executor_exited', pid: instance.pid, cause, runs })
      },
    })
    instances.add(instance)
    live.add(instance)
    const loaded = await instance.host.loaded
    const ms = Math.round(performance.now() - began)
    observe({ kind: 'executor_started', pid: instance.pid, ms })
    note(loaded, ms, generation)
    return { instance, generation, began }
  }

  // Several instances load the same graphs: what each finds is said where it is news.
  const note = (loaded: GraphStatus[], ms: number, generation: number) => {
    if (generation < noted) return
    const before = new Map(generation > noted ? [] : statuses.map((status) => [status.graph_id, status]))
    noted = generation
    for (const { graph_id, error } of loaded) {
      if (before.has(graph_id) && before.get(graph_id)?.error === error) continue
      if (error === undefined) observe({ kind: 'graph_loaded', graph_id, ms })
      else observe({ kind: 'graph_failed_to_load', graph_id, message: error })
    }
    statuses = loaded
  }

  // An instance, however often it takes: after one that died while it started, there is a growing pause.
  const insist = async (): Promise<Member> => {
    for (;;) {
      if (failures > 0) await pause(Math.min(100 * 2 ** failures, MAX_DELAY))
      if (closing) throw new ApiError('shutting_down')
      try {
        return await begin()
      } catch {
        // Observed as `executor_exited`; runs and calls wait for one that stays.
        failures++
      }
    }
  }

  async function insistOnNew(): Promise<Instance> {
    for (;;) {
      const { generation, instance } = await insist()
      if (generation === latest) return instance
      instance.host.drain()
    }
  }

  const lose = (instance: Instance) => {
    live.delete(instance)
    quarantine.lost(instance)
    const at = serving.findIndex((member) => member.instance === instance)
    const [member] = at < 0 ? [] : serving.splice(at, 1)
    if (!member) return
    if (instance.host.load === 0 && performance.now() - member.began < EARLY_MS) failures++
    fill()
  }

  const fill = () => {
    while (!closing && serving.length + filling < options.size) {
      filling++
      insist()
        .then(serve, () => {})
        .finally(() => {
          filling--
          fill()
        })
    }
  }

  // The newest code serves: an instance that began to load before a reload, and was slower, is not wanted any more.
  const serve = (member: Member): void => {
    failures = 0
    const newest = serving[0]?.generation ?? 0
    if (closing || !live.has(member.instance)) return
    if (member.generation < newest || (member.generation === newest && serving.length >= options.size)) {
      member.instance.host.drain()
      return
    }
    if (member.generation > newest) {
      for (const old of serving.splice(0)) old.instance.host.drain()
      quarantine.retire()
    }
    serving.push(member)
    for (const { resolve } of waiting.splice(0)) resolve()
  }

  const leastBusy = (): Host | undefined => {
    let best: Host | undefined
    for (const { instance } of serving) if (!best || instance.host.load < best.load) best = instance.host
    return best
  }

  const next = async (): Promise<Host> => {
    for (;;) {
      const host = leastBusy()
      if (host) return host
      if (closing || !isStarted) throw new ApiError(closing ? 'shutting_down' : 'executor_unavailable')
      await new Promise<void>((resolve, reject) => waiting.push({ resolve, reject }))
    }
  }
  const lent = async (): Promise<Lent> => ({ host: await next(), giveBack: () => {} })

  return {
    mode,
    graphs: () => statuses,
    start: async () => {
      serve(await begin())
      isStarted = true
      fill()
      return statuses
    },
    run: (job, sink) => {
      if (job.suspect && options.quarantine > 0 && !closing) return quarantine.run(job, sink)
      const host = leastBusy()
      return host ? host.run(job, sink) : runLater(lent(), job, sink)
    },
    call: async (method, params) => (leastBusy() ?? (await next())).call(method, params),
    reload: async () => {
      if (closing) throw new ApiError('shutting_down')
      latest++
      serve(await begin())
      // The others are exchanged beside: none of them takes work any more.
      fill()
      return statuses
    },
    close: async () => {
      closing = true
      serving.length = 0
      const reason = new ApiError('shutting_down')
      for (const { reject } of waiting.splice(0)) reject(reason)
      quarantine.close(reason)
      await Promise.all([...instances].map((each) => each.end()))
      await Promise.all(gone)
    },
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms).unref())
