// Everything that two workers, a rescuer on each, and clients can do to a thread's runs, in every order: no law is ever
// broken, and from everywhere the runs come to their ends. And the same with the code's rules changed: then it is found.

import { expect, test } from 'vitest'
import * as checkpoints from '../../src/db/checkpoints.ts'
import * as events from '../../src/db/events.ts'
import * as journal from '../../src/db/journal.ts'
import * as newRuns from '../../src/db/new-runs.ts'
import * as queue from '../../src/db/queue.ts'
import * as runs from '../../src/db/runs.ts'
import * as threads from '../../src/db/threads.ts'
import type { World } from './actions.ts'
import { type Explored, explore } from './explore.ts'
import { type Mutant, mutants, spare } from './mutants.ts'
import { mirrors } from './statements.ts'

const world: World = {
  maxAttempts: 2,
  strategies: ['enqueue', 'interrupt', 'rollback', 'reject'],
  outcomes: ['succeed'],
  faulty: new Set(),
}
/** What is under CI's clock; the larger bounds take minutes. */
const bounds = [
  {
    name: 'one run and three attempts',
    runs: 1,
    faults: 2,
    asks: 2,
    maxAttempts: 3,
    outcomes: ['succeed', 'fail', 'expire'],
  },
  { name: 'two runs', runs: 2, faults: 1, asks: 2 },
  { name: 'three runs', runs: 3, faults: 1, asks: 0 },
  { name: 'one run and many faults', runs: 1, faults: 4, asks: 1, maxAttempts: 3, large: true },
  { name: 'two runs and more faults', runs: 2, faults: 2, asks: 1, large: true },
  { name: 'three runs and what is asked of them', runs: 3, faults: 1, asks: 1, large: true },
] as const
const isLarge = process.env.HEDDLE_MODEL === 'large'

test.each(bounds.filter((one) => isLarge || !('large' in one)))(
  'with $name, no order of events breaks a law or keeps a run from its end',
  { timeout: 600_000 },
  ({ name, runs, faults, asks, ...changes }) => {
    const began = Date.now()
    const found = explore({ runs, faults, asks }, { ...world, ...changes }, 6_000_000)
    console.log(`${name}: ${found.states} states, ${found.moves} moves, depth ${found.depth}, ${Date.now() - began} ms`)
    expect(findingOf(found)).toBe('')
    expect(found.states).toBeGreaterThan(1_000)
  },
)

const withFault = ({ faulty, runs = 1, faults = 1, asks = 0 }: Mutant): Explored =>
  explore({ runs, faults, asks }, { ...world, faulty: new Set(faulty) })

test.each(mutants)('code with $faulty is found: $breaks', (mutant) => {
  const found = withFault(mutant)
  expect(findingOf(found)).not.toBe('')
  expect(found.broken?.law ?? 'stuck').toMatch(new RegExp(`^${mutant.breaks}`))
})

test.each(spare)('code with $faulty breaks $breaks', (mutant) => {
  expect(findingOf(withFault(mutant))).toBe('')
})

test('every rule that can be changed is changed by a mutant, and no mutant is idle', async () => {
  const { readFile, readdir } = await import('node:fs/promises')
  const files = (await readdir(import.meta.dirname)).filter(
    (name) => name.endsWith('.ts') && !name.endsWith('.test.ts'),
  )
  const text = (await Promise.all(files.map((name) => readFile(`${import.meta.dirname}/${name}`, 'utf8')))).join('\n')
  const known = new Set([...text.matchAll(/(?:m|faulty)\.has\('([^']+)'\)/g)].map(([, name]) => name))
  expect(new Set(mutants.flatMap(({ faulty }) => faulty))).toEqual(known)
})

test('the statements that the model mirrors are those of the code', () => {
  const modules: Record<keyof typeof mirrors, object> = { queue, runs, newRuns, journal, checkpoints, events, threads }
  for (const [name, statements] of Object.entries(mirrors)) {
    const module = modules[name as keyof typeof mirrors]
    expect(statements.filter((statement) => typeof Reflect.get(module, statement) !== 'function')).toEqual([])
  }
})

/** The law and the shortest way to break it, for people; '' when there is none. */
function findingOf({ broken, stuck }: Explored): string {
  if (broken !== undefined) return [broken.law, ...broken.trace].join('\n  ')
  return stuck === undefined ? '' : ['a run cannot come to its end after:', ...stuck.trace].join('\n  ')
}
