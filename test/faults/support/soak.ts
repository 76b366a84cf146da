// A soak: clients and the nemesis against a small production, first in peace, then under faults, and the checker at the end.
// In charge of its phases and of putting the history together.

import { setTimeout as sleep } from 'node:timers/promises'
import { until } from '../../support/until.ts'
import { type Breach, check, successOf } from './checker.ts'
import { startClients } from './clients.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { groupBy, type History, type Outage, type Recovery, type StatusChange } from './history.ts'
import type { LedgerEntry } from './ledger.ts'
import { createNemesis, type Fault, type Kill } from './nemesis.ts'
import type { Random } from './random.ts'
import { sampleResources } from './resources.ts'
import { installWitness, readWitness } from './witness.ts'

export interface SoakOptions {
  random: Random
  plan: readonly Fault[]
  quietMs: number
  leaseSeconds: number
  clients: { count: number; thinkMs: number }
  least: { successRatio: number; runs: number }
  say: (line: string) => void
}

export interface SoakResult {
  breaches: Breach[]
  faults: Map<string, number>
  runs: number
  repeatedRequests: number
  streams: number
  resumedStreams: number
  successRatio: number
  /** Runs a second. */
  throughput: { quiet: number; faults: number }
  /** Of runs in a worker that was killed: ms until they were claimed again, or ended. */
  recoveries: { worker: number[]; executor: number[] }
  executionsAgain: number
}

/** Runs the soak on a cluster of its own. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const cluster = await startCluster({
    env: {
      HEDDLE_LEASE_SECONDS: `${options.leaseSeconds}`,
      BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: '2',
      // A run that is hit again and again has done no harm itself.
      BG_JOB_MAX_RETRIES: '20',
    },
  })
  try {
    return await soakOn(cluster, options)
  } finally {
    await cluster.close()
  }
}

async function soakOn(cluster: Cluster, options: SoakOptions): Promise<SoakResult> {
  const { say } = options
  await installWitness(cluster)
  const clients = startClients(cluster, options.random.fork('clients'), options.clients)
  const nemesis = createNemesis(cluster, say)
  await until('the first runs are made', () => clients.logs.accepted.length >= options.clients.count, 60_000)
  say(`quiet for ${options.quietMs / 1_000} s`)
  const quiet = await during(() => sleep(options.quietMs))
  const before = await sampleResources(cluster)
  const under = await during(() => nemesis.play(options.plan))
  say('the faults are over')
  await clients.stop((options.leaseSeconds + 60) * 1_000)
  const active = `select count(*)::int as n from runs where status in ('pending', 'running')`
  await until(
    'every run has ended',
    async () => (await cluster.query<{ n: number }>(active))[0]?.n === 0,
    60_000,
  ).catch(
    // The checker names them.
    () => {},
  )
  say('everything has ended: checking')
  const seen = await readWitness(cluster)
  const ledger = cluster.ledger.read()
  const recoveries = recoveriesOf(nemesis.kills, ledger, seen.statuses, nemesis.outages, options.leaseSeconds)
  const history: History = {
    ...clients.logs,
    ...seen,
    ledger,
    outages: nemesis.outages,
    states: await statesOf(cluster, clients.logs.accepted),
    resources: await sampleResources(cluster, before),
    recoveries,
    least: options.least,
  }
  const ended = ({ from, to }: Span) =>
    history.statuses.filter((change) => isEnd(change) && change.at >= from && change.at <= to).length /
    ((to - from) / 1_000)
  const began = history.ledger.filter(({ event }) => event === 'began')
  const ofKill = (kind: Kill['kind']) => recoveries.filter(({ fault }) => fault === kind).map(({ ms }) => ms)
  return {
    breaches: check(history),
    faults: nemesis.done,
    runs: history.accepted.length,
    repeatedRequests: clients.repeated(),
    streams: history.streams.length,
    resumedStreams: history.streams.reduce((sum, { connections }) => sum + connections - 1, 0),
    successRatio: successOf(
      history.accepted,
      groupBy(history.statuses, ({ run_id }) => run_id),
    ).ratio,
    throughput: { quiet: ended(quiet), faults: ended(under) },
    recoveries: { worker: ofKill('kill_worker'), executor: ofKill('kill_executor') },
    executionsAgain: began.length - new Set(began.map(({ run, node }) => `${run} ${node}`)).size,
  }
}

interface Span {
  from: number
  to: number
}

async function during(work: () => Promise<unknown>): Promise<Span> {
  const from = Date.now()
  await work()
  return { from, to: Date.now() }
}

const isEnd = ({ from, to }: StatusChange) =>
  (from === 'pending' || from === 'running') && !['pending', 'running'].includes(to)

/** When the runs of a killed process went on. What another fault held up at the same time is granted. */
export function recoveriesOf(
  kills: readonly Kill[],
  ledger: readonly LedgerEntry[],
  statuses: readonly StatusChange[],
  outages: readonly Outage[],
  leaseSeconds: number,
): Recovery[] {
  const ofRun = groupBy(statuses, ({ run_id }) => run_id)
  const entriesOf = groupBy(ledger, ({ run }) => run)
  return kills.flatMap(({ kind, pid, at }) => {
    const own = (entry: LedgerEntry | undefined) =>
      entry !== undefined && (kind === 'kill_worker' ? entry.ppid : entry.pid) === pid
    const hit = [...entriesOf].filter(([, entries]) => own(entries.findLast(({ t }) => t <= at)))
    return hit.flatMap(([run_id]): Recovery[] => {
      const changes = ofRun.get(run_id) ?? []
      if (changes.findLast((change) => change.at <= at)?.to !== 'running') return []
      const next = changes.find((change) => change.at > at && change.to !== 'pending')
      // What had reached the database ends without anybody's help.
      if (next !== undefined && next.at - at < 5 && next.to !== 'running') return []
      const ms = next === undefined ? Number.POSITIVE_INFINITY : next.at - at
      const granted = outages
        .map(({ from, to }) => Math.max(0, Math.min(to, at + ms) - Math.max(from, at)))
        .reduce((sum, overlap) => sum + overlap, 0)
      return [{ fault: kind, run_id, ms, bound: leaseSeconds * 1_000 + 5_000 + granted }]
    })
  })
}

/** What the threads hold now, past every proxy. */
async function statesOf(cluster: Cluster, accepted: readonly { thread_id: string; temporary: boolean }[]) {
  const kept = new Set(accepted.filter(({ temporary }) => !temporary).map(({ thread_id }) => thread_id))
  const rows = await cluster.query<{ thread_id: string; done: string[] | null }>(
    `select thread_id, "values" -> 'done' as done from threads where thread_id = any($1)`,
    [[...kept]],
  )
  return rows.map(({ thread_id, done }) => ({ thread_id, done: done ?? [] }))
}
