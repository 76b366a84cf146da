// The nemesis: which faults there are, which come when, and doing them. A plan depends on its seed alone, so that it can be
// played again; what the system makes of it still depends on the machine.

import { setTimeout as sleep } from 'node:timers/promises'
import { until } from '../../support/until.ts'
import type { Cluster } from './cluster.ts'
import type { Outage } from './history.ts'
import { type Member, send } from './processes.ts'
import type { ProxyMode } from './proxy.ts'
import type { Random } from './random.ts'

const PROXY_KINDS = ['delay', 'reset', 'blackhole', 'cut', 'swallow'] as const
const WORKER_FAILPOINTS = [
  'after_claim=kill9',
  'after_claim=error*2',
  'before_event_append=kill9',
  'before_event_append=error*5',
  'after_checkpoint_commit=kill9',
  'after_checkpoint_commit=error*3',
  'after_event_append_before_publish=kill9',
  'after_event_append_before_publish=error*3',
  'before_finalize=kill9',
  'before_finalize=pause:500*4',
  'after_finalize_before_ack=kill9',
  'after_finalize_before_ack=error*3',
  'before_lease_renewal=pause:2000*2',
  'in_reaper_between_select_update=kill9',
] as const
const API_FAILPOINTS = ['after_insert_before_reply=kill9', 'after_cancel_before_publish=kill9'] as const

/** Every kind of fault. */
export const faultKinds = [
  'kill_worker',
  'kill_api',
  'kill_executor',
  'pause_worker_within_lease',
  'pause_worker_beyond_lease',
  'term_worker',
  'term_api',
  'postgres_restart',
  'terminate_backends',
  'redis_restart',
  'redis_flush',
  ...PROXY_KINDS.map((kind) => `postgres_${kind}` as const),
  ...PROXY_KINDS.map((kind) => `redis_${kind}` as const),
  'failpoint_worker',
  'failpoint_api',
] as const

export type FaultKind = (typeof faultKinds)[number]

export interface Fault {
  kind: FaultKind
  /** Since the beginning. */
  atMs: number
  /** How long it lasts, where that is decided by the fault. */
  ms: number
  /** Who is hit, where it is one process: an index into those of its role. */
  target: number
  failpoint?: string
}

/** Faults at about every `everyMs`: every kind once, in an order of its own, before any comes again. */
export function planFaults(
  random: Random,
  options: { durationMs: number; everyMs: number; leaseMs: number; kinds?: readonly FaultKind[] },
): Fault[] {
  const plan: Fault[] = []
  let deck: FaultKind[] = []
  for (let atMs = 0; atMs < options.durationMs; atMs += options.everyMs * (0.75 + random.next() / 2)) {
    if (deck.length === 0) deck = random.shuffled(options.kinds ?? faultKinds)
    const kind = deck.shift() as FaultKind
    plan.push({
      kind,
      atMs: Math.round(atMs),
      target: random.whole(0, 3),
      ms: lasting(kind, random, options.leaseMs),
      ...(kind === 'failpoint_worker' && { failpoint: random.pick(WORKER_FAILPOINTS) }),
      ...(kind === 'failpoint_api' && { failpoint: random.pick(API_FAILPOINTS) }),
    })
  }
  return plan
}

function lasting(kind: FaultKind, random: Random, leaseMs: number): number {
  switch (kind) {
    case 'pause_worker_within_lease':
      return Math.round(leaseMs * (0.2 + random.next() * 0.4))
    case 'pause_worker_beyond_lease':
      return leaseMs + random.whole(1_500, 4_000)
    case 'postgres_blackhole':
      return random.chance(0.3) ? leaseMs + 2_000 : random.whole(500, 3_000)
    case 'postgres_restart':
      return random.whole(0, 1_500)
    default:
      return random.whole(200, 2_500)
  }
}

/** A process that was killed with runs in it. */
export interface Kill {
  kind: 'kill_worker' | 'kill_executor'
  pid: number
  at: number
}

export interface Nemesis {
  readonly outages: Outage[]
  readonly kills: Kill[]
  /** How often each kind was done. */
  readonly done: Map<string, number>
  /** Plays the plan; resolves when its last fault is over and every process is up. */
  play(plan: readonly Fault[]): Promise<void>
}

/** How long a fault waits for the one before to be over. */
const PATIENCE_MS = 20_000
/** After what is mended, connections have to be made anew. */
const AFTERMATH_MS = 6_000

export function createNemesis(cluster: Cluster, say: (line: string) => void): Nemesis {
  const outages: Outage[] = []
  const kills: Kill[] = []
  const done = new Map<string, number>()
  const busy = new Set<Member>()

  /** Declares that there may be 5xx meanwhile and a moment longer. */
  async function out<T>(member: Member | undefined, work: () => Promise<T>): Promise<T> {
    const outage: Outage = { from: Date.now(), to: Number.POSITIVE_INFINITY, ...(member && { member: member.name }) }
    outages.push(outage)
    try {
      return await work()
    } finally {
      outage.to = Date.now() + AFTERMATH_MS
    }
  }

  /** A start may meet another fault, and is then made again, as a supervisor would. */
  async function revive(member: Member, env?: Record<string, string>): Promise<void> {
    for (let left = 20; ; left--) {
      try {
        return await member.start(env)
      } catch (error) {
        if (left === 0) throw error
        await member.stop('SIGKILL')
        await sleep(500)
      }
    }
  }

  async function restarted(member: Member, signal: NodeJS.Signals): Promise<void> {
    await out(member, async () => {
      await member.stop(signal)
      await revive(member)
    })
  }

  async function withFailpoint(member: Member, failpoint: string): Promise<void> {
    await out(member, async () => {
      await member.stop('SIGTERM')
      await revive(member, { HEDDLE_FAILPOINTS: failpoint })
      await Promise.race([member.gone(), sleep(6_000)])
      await member.stop('SIGKILL')
      await revive(member)
    })
  }

  async function throughProxy(member: Member, at: 'postgres' | 'redis', mode: ProxyMode, ms: number): Promise<void> {
    const proxy = member[at]
    if (proxy === undefined) return
    await out(at === 'postgres' ? member : undefined, async () => {
      proxy.set(mode)
      await sleep(ms)
      proxy.mend()
    })
    if (at === 'redis') outages.pop()
  }

  async function inflict(fault: Fault, member: Member): Promise<void> {
    const { kind, ms } = fault
    switch (kind) {
      case 'kill_worker':
      case 'kill_api': {
        const pid = member.pid()
        if (kind === 'kill_worker' && pid !== undefined) kills.push({ kind, pid, at: Date.now() })
        return restarted(member, 'SIGKILL')
      }
      case 'kill_executor': {
        const pid = member.executors()[0]
        if (pid === undefined) return
        kills.push({ kind, pid, at: Date.now() })
        return send(pid, 'SIGKILL')
      }
      case 'pause_worker_within_lease':
      case 'pause_worker_beyond_lease':
        member.signal('SIGSTOP', { executors: true })
        await sleep(ms)
        return member.signal('SIGCONT', { executors: true })
      case 'term_worker':
      case 'term_api':
        return restarted(member, 'SIGTERM')
      case 'postgres_restart':
        return out(undefined, async () => {
          await cluster.postgres.crash()
          await sleep(ms)
          await cluster.postgres.restart()
        })
      case 'terminate_backends':
        return out(undefined, async () => {
          await cluster.query('select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()')
        })
      case 'redis_restart':
        await cluster.redis?.crash()
        await sleep(ms)
        return cluster.redis?.restart()
      case 'redis_flush':
        return cluster.redis && flush(cluster.redis.uri)
      case 'failpoint_worker':
      case 'failpoint_api':
        return withFailpoint(member, fault.failpoint ?? '')
      default: {
        const [at, mode] = kind.split('_') as ['postgres' | 'redis', (typeof PROXY_KINDS)[number]]
        return throughProxy(member, at, modeOf(mode, fault), ms)
      }
    }
  }

  /** One that nothing else is being done to; another of its role stays whole. */
  function victim({ kind, target }: Fault): Member | undefined {
    const among = kind.includes('api') ? cluster.apis : /worker|executor/.test(kind) ? cluster.workers : cluster.members
    const free = among.filter((member) => !busy.has(member))
    return free.length === among.length || among === cluster.members ? free[target % free.length] : undefined
  }

  async function strike(fault: Fault): Promise<void> {
    const isAboutOne = !/^(postgres_restart|terminate|redis_restart|redis_flush)/.test(fault.kind)
    const member = isAboutOne
      ? await until('there is one to hit', () => victim(fault), PATIENCE_MS).catch(() => {})
      : undefined
    if (isAboutOne && !member) return say(`${fault.kind}: left out, its like is hit already`)
    const hit = member ?? undefined
    if (hit) busy.add(hit)
    const words = [fault.kind, hit?.name, fault.failpoint].filter((word) => word !== undefined).join(' ')
    say(words)
    done.set(fault.kind, (done.get(fault.kind) ?? 0) + 1)
    try {
      await inflict(fault, hit ?? (cluster.members[0] as Member))
    } finally {
      if (hit) busy.delete(hit)
    }
  }

  return {
    outages,
    kills,
    done,
    async play(plan) {
      const began = performance.now()
      const under: Promise<void>[] = []
      for (const fault of plan) {
        await sleep(Math.max(0, fault.atMs - (performance.now() - began)))
        const struck = strike(fault)
        struck.catch(() => {})
        under.push(struck)
      }
      await Promise.all(under)
    },
  }
}

function modeOf(kind: (typeof PROXY_KINDS)[number], { target }: Fault): ProxyMode {
  switch (kind) {
    case 'delay':
      return { kind, ms: 50 + target * 100 }
    case 'cut':
      return { kind, bytes: target * 700 }
    default:
      return { kind }
  }
}

async function flush(uri: string): Promise<void> {
  const { createClient } = await import('redis')
  const client = createClient({ url: uri, socket: { reconnectStrategy: false } })
  client.on('error', () => {})
  try {
    await client.connect()
    await client.flushAll()
  } catch {
    // It is being restarted: it has lost everything already.
  } finally {
    client.destroy()
  }
}
