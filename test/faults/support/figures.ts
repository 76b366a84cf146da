// The figures: how long what was promised takes, one thing at a time and in peace otherwise. In charge of measuring by the
// ledger and by what clients see.

import { setTimeout as sleep } from 'node:timers/promises'
import { until } from '../../support/until.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { type Member, send } from './processes.ts'
import type { Random } from './random.ts'

export interface Figure {
  what: string
  samples: number
  p50: number
  p99: number
  /** What is promised of its p99, in milliseconds, if anything is. */
  bound: number | undefined
}

const GRACE_SECONDS = 1

/** Measures every figure; takes about four minutes, most of them leases that run out. */
export async function measureFigures(options: { random: Random; say: (line: string) => void }): Promise<Figure[]> {
  const cluster = await startCluster({ env: { BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: `${GRACE_SECONDS}` } })
  const figures: Figure[] = []
  const add = async (what: string, bound: number | undefined, measure: () => Promise<number[]>) => {
    const samples = await measure()
    const figure = {
      what,
      samples: samples.length,
      p50: quantile(samples, 0.5),
      p99: quantile(samples, 0.99),
      bound,
    }
    options.say(`${what}: ${JSON.stringify(figure)}`)
    figures.push(figure)
  }
  try {
    await add('cancel, until the run has ended', 500, () => cancels(cluster, 200))
    await add('executor killed with one run → it goes on', 1_000, () => executors(cluster, 20, 1))
    await add('executor killed with four runs → each goes on', undefined, () => executors(cluster, 5, 4))
    await add('SIGTERM → its runs go on elsewhere, after the grace', 1_000, () => handOffs(cluster, 8))
    await add('worker `kill -9` → its runs go on elsewhere', 20_000, () => workers(cluster, 8, options.random))
    return figures
  } finally {
    await cluster.close()
  }
}

interface Run {
  run_id: string
  thread_id: string
}

async function post(member: Member, path: string, body?: object): Promise<Response> {
  const response = await fetch(`${member.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  })
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
  return response
}

/** Runs that hang in their second node, all of them there. */
async function hanging(cluster: Cluster, count: number): Promise<Run[]> {
  const [api] = cluster.apis as [Member]
  const body = { assistant_id: 'steps', input: { done: [], tag: 'hanging', ms: 1, hang: 'two' } }
  const made = Array.from({ length: count }, async () => (await (await post(api, '/runs', body)).json()) as Run)
  const runs = await Promise.all(made)
  const ids = new Set(runs.map(({ run_id }) => run_id))
  await until('all of them hang', () => began(cluster, ids).length === count, 30_000)
  return runs
}

const began = (cluster: Cluster, runs: ReadonlySet<string>, after = 0) =>
  cluster.ledger
    .read()
    .filter(({ run, node, event, t }) => runs.has(run) && node === 'two' && event === 'began' && t > after)

/** Ends the runs, so that the next measure begins in peace. */
async function clear(cluster: Cluster, runs: readonly Run[]): Promise<void> {
  const [api] = cluster.apis as [Member]
  await Promise.all(
    runs.map(({ thread_id, run_id }) => post(api, `/threads/${thread_id}/runs/${run_id}/cancel?wait=true`)),
  )
}

/** Milliseconds from `at` until each run's node begins again in another process. */
async function goOn(cluster: Cluster, hit: ReadonlySet<string>, at: number): Promise<number[]> {
  const again = await until(
    'every run goes on',
    () => {
      const entries = began(cluster, hit, at)
      return new Set(entries.map(({ run }) => run)).size === hit.size && entries
    },
    60_000,
  )
  return [...hit].map((run_id) => (again.find(({ run }) => run === run_id)?.t ?? Number.NaN) - at)
}

const runsOf = (cluster: Cluster, runs: readonly Run[], isIn: (entry: { pid: number; ppid: number }) => boolean) => {
  const ids = new Set(runs.map(({ run_id }) => run_id))
  return new Set(
    began(cluster, ids)
      .filter(isIn)
      .map(({ run }) => run),
  )
}

async function cancels(cluster: Cluster, count: number): Promise<number[]> {
  const samples: number[] = []
  while (samples.length < count) {
    const runs = await hanging(cluster, 10)
    for (const [i, { thread_id, run_id }] of runs.entries()) {
      const at = performance.now()
      // Every other one through the api that did not make it.
      await post(cluster.apis[i % 2] as Member, `/threads/${thread_id}/runs/${run_id}/cancel?wait=true`)
      samples.push(performance.now() - at)
    }
  }
  return samples
}

async function executors(cluster: Cluster, rounds: number, runsEach: number): Promise<number[]> {
  const samples: number[] = []
  for (let round = 0; round < rounds; round++) {
    const runs = await hanging(cluster, runsEach)
    const ids = new Set(runs.map(({ run_id }) => run_id))
    const { pid } = began(cluster, ids)[0] as { pid: number }
    const hit = runsOf(cluster, runs, (entry) => entry.pid === pid)
    const at = Date.now()
    send(pid, 'SIGKILL')
    samples.push(...(await goOn(cluster, hit, at)))
    await clear(cluster, runs)
  }
  return samples
}

async function handOffs(cluster: Cluster, rounds: number): Promise<number[]> {
  const samples: number[] = []
  for (let round = 0; round < rounds; round++) {
    const runs = await hanging(cluster, 6)
    const worker = cluster.workers[round % 2] as Member
    const pid = worker.pid()
    const hit = runsOf(cluster, runs, (entry) => entry.ppid === pid)
    const at = Date.now()
    const stopped = worker.stop('SIGTERM')
    samples.push(...(await goOn(cluster, hit, at)).map((ms) => ms - GRACE_SECONDS * 1_000))
    await stopped
    await worker.start()
    await clear(cluster, runs)
  }
  return samples
}

async function workers(cluster: Cluster, rounds: number, random: Random): Promise<number[]> {
  const samples: number[] = []
  for (let round = 0; round < rounds; round++) {
    const runs = await hanging(cluster, 6)
    const worker = cluster.workers[round % 2] as Member
    const pid = worker.pid()
    const hit = runsOf(cluster, runs, (entry) => entry.ppid === pid)
    // At any time since the lease was renewed.
    await sleep(random.whole(0, 5_000))
    const at = Date.now()
    await worker.stop('SIGKILL')
    await worker.start()
    samples.push(...(await goOn(cluster, hit, at)))
    await clear(cluster, runs)
  }
  return samples
}

/** The value that this share of the samples does not exceed. */
export const quantile = (samples: readonly number[], share: number): number =>
  samples.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(samples.length * share) - 1)] ?? Number.NaN
