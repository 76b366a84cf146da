// What `npm run soak` does: a soak or the figures, said while it goes on and written into docs/reliability.md. In charge of
// the page's tables; the page's words around them are its own.

import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { serverVersions } from '../../../scripts/servers.mjs'
import { version } from '../../../src/config.ts'
import { measureFigures, quantile } from './figures.ts'
import { planFaults } from './nemesis.ts'
import { createRandom } from './random.ts'
import { type SoakResult, soak } from './soak.ts'

const PAGE = fileURLToPath(new URL('../../../docs/reliability.md', import.meta.url))
const LEASE_SECONDS = 15
const EVERY_MS = 5_000

/** Soaks for about this long, of which a tenth is quiet; false where a law was broken. */
export async function runSoak({ minutes, seed }: { minutes: number; seed: number }): Promise<boolean> {
  const began = Date.now()
  const say = (line: string) => console.log(`${((Date.now() - began) / 1_000).toFixed(1).padStart(7)} s  ${line}`)
  say(`seed ${seed}`)
  const random = createRandom(seed)
  const quietMs = Math.max(10_000, minutes * 6_000)
  const durationMs = Math.max(20_000, minutes * 60_000 - quietMs)
  const plan = planFaults(random.fork('plan'), { durationMs, everyMs: EVERY_MS, leaseMs: LEASE_SECONDS * 1_000 })
  const result = await soak({
    random,
    plan,
    quietMs,
    leaseSeconds: LEASE_SECONDS,
    clients: { count: 24, thinkMs: 400 },
    least: { successRatio: 0.999, runs: Math.round(minutes * 200) },
    say,
  })
  for (const { invariant, harm, what } of result.breaches.slice(0, 50)) say(`${invariant} (${harm}): ${what}`)
  const table = soakTable(result, { minutes, seed })
  console.log(`\n${table}`)
  writeBetween('soak', table)
  return result.breaches.length === 0
}

/** Measures what the page promises in milliseconds; false where one is missed. */
export async function runFigures({ seed }: { seed: number }): Promise<boolean> {
  const figures = await measureFigures({ random: createRandom(seed), say: (line) => console.log(line) })
  const rows = figures.map(
    ({ what, samples, p50, p99, bound }) =>
      `| ${what} | ${samples} | ${Math.round(p50)} ms | ${Math.round(p99)} ms | ${bound === undefined ? '' : `p99 at most ${bound} ms`} |`,
  )
  const head = ['| | samples | p50 | p99 | promised |', '|---|---|---|---|---|']
  const table = [setting(), '', ...head, ...rows].join('\n')
  console.log(`\n${table}`)
  writeBetween('figures', table)
  return figures.every(({ p99, bound }) => bound === undefined || p99 <= bound)
}

function soakTable(result: SoakResult, { minutes, seed }: { minutes: number; seed: number }): string {
  const count = (harm: string) => result.breaches.filter((breach) => breach.harm === harm).length
  const { quiet, faults } = result.throughput
  const kinds = [...result.faults].toSorted(([a], [b]) => a.localeCompare(b))
  const total = kinds.reduce((sum, [, times]) => sum + times, 0)
  const rows = [
    ['runs', `${result.runs}, on which clients made ${result.repeatedRequests} requests again`],
    ['faults', `${total}: ${kinds.map(([kind, times]) => `${kind.replaceAll('_', ' ')} ${times}`).join(', ')}`],
    ['lost', `${count('lost')}`],
    ['duplicated', `${count('duplicated')}`],
    ['stale writes', `${count('stale')}`],
    ['stream gaps', `${count('gap')}, in ${result.streams} streams that were resumed ${result.resumedStreams} times`],
    ['other breaches', `${count('other')}`],
    ['nodes run again', `${result.executionsAgain}, none of them committed before`],
    ['worker `kill -9` → resumed', recovery(result.recoveries.worker)],
    ['executor killed → resumed', recovery(result.recoveries.executor)],
    [
      'throughput',
      `${faults.toFixed(1)} runs/s under faults, ${quiet.toFixed(1)} in the quiet: ${Math.round((faults / quiet) * 100)} %`,
    ],
    ['success', `${(result.successRatio * 100).toFixed(2)} % of the runs that no client stopped`],
  ]
  return [
    `${setting()} ${minutes} minutes, seed ${seed}.`,
    '',
    '| | |',
    '|---|---|',
    ...rows.map(([name, value]) => `| ${name} | ${value} |`),
  ].join('\n')
}

function recovery(times: readonly number[]): string {
  if (times.length === 0) return 'no run was hit'
  const at = (share: number) => quantile(times, share)
  return `p50 ${seconds(at(0.5))}, p99 ${seconds(at(0.99))}, of ${times.length} runs`
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(2)} s`

function setting(): string {
  const cpu = `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB`
  const servers = serverVersions().map((line) => /(postgres|redis|valkey)\D+([\d.]+)/i.exec(line))
  const names = servers.flatMap((found) => (found ? [`${found[1]} ${found[2]}`] : []))
  const versions = [`Heddle ${version}`, `Node ${process.versions.node}`, ...names, `Linux ${release()}`]
  return `${new Date().toISOString().slice(0, 10)}, ${cpu}. ${versions.join(', ')}.`
}

/** Replaces what stands between `<!-- name -->` and `<!-- /name -->`. */
function writeBetween(name: string, text: string): void {
  const page = readFileSync(PAGE, 'utf8')
  const marked = new RegExp(`<!-- ${name} -->[\\s\\S]*<!-- /${name} -->`)
  if (!marked.test(page)) throw new Error(`docs/reliability.md has no marks for ${name}`)
  writeFileSync(
    PAGE,
    page.replace(marked, () => `<!-- ${name} -->\n${text}\n<!-- /${name} -->`),
  )
}
