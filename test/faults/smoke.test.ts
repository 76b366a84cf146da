// A minute of faults against two apis and two workers of the build, and the invariants at the end. SOAK_SEED=<n> plays a
// seed again: the same faults in the same order at the same times.

import { expect, test } from 'vitest'
import { type FaultKind, planFaults } from './support/nemesis.ts'
import { createRandom } from './support/random.ts'
import { soak } from './support/soak.ts'

const LEASE_SECONDS = 3
const EVERY_MS = 4_000
/** One of each sort; the soak has them all. */
const KINDS: FaultKind[] = [
  'kill_worker',
  'kill_api',
  'kill_executor',
  'pause_worker_beyond_lease',
  'term_worker',
  'postgres_restart',
  'terminate_backends',
  'redis_restart',
  'redis_flush',
  'postgres_swallow',
  'postgres_blackhole',
  'failpoint_worker',
]

test('twelve faults cost no run, no event and no order', { timeout: 180_000 }, async () => {
  const seed = Number(process.env.SOAK_SEED ?? Math.floor(Math.random() * 1e6))
  console.log(`the seed of these faults is ${seed}: SOAK_SEED=${seed} plays them again`)
  const random = createRandom(seed)
  const plan = planFaults(random.fork('plan'), {
    durationMs: KINDS.length * EVERY_MS,
    everyMs: EVERY_MS,
    leaseMs: LEASE_SECONDS * 1_000,
    kinds: KINDS,
  }).slice(0, KINDS.length)
  const said: string[] = []
  const began = Date.now()
  const result = await soak({
    random,
    plan,
    quietMs: 3_000,
    leaseSeconds: LEASE_SECONDS,
    clients: { count: 8, thinkMs: 150 },
    least: { successRatio: 1, runs: 100 },
    say: (line) => said.push(`${((Date.now() - began) / 1_000).toFixed(1)} s: ${line}`),
  })
  if (result.breaches.length > 0) console.log(said.join('\n'))
  expect(result.breaches).toEqual([])
  expect([...result.faults.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(9)
})
