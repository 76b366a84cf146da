// The model is what the code does: random ways through the model, and the ways to what was once wrong, are gone with the code's own
// functions on a real Postgres, and after every step its rows are what the model says. `HEDDLE_MODEL_SEED` repeats a run.

import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Database } from '../../src/db/db.ts'
import { openDatabase } from '../../src/db/open.ts'
import { ensureAssistants } from '../../src/graph/registry.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { type Step, steps, type World } from './actions.ts'
import { explore } from './explore.ts'
import { lawBroken } from './laws.ts'
import { mutants } from './mutants.ts'
import { createReplay, rowsOf } from './replay.ts'
import { type Bounds, initial, type State } from './state.ts'

const world: World = {
  maxAttempts: 3,
  strategies: ['enqueue', 'interrupt', 'rollback'],
  outcomes: ['succeed', 'fail', 'expire'],
  faulty: new Set(),
}
const seed = Number(process.env.HEDDLE_MODEL_SEED ?? Date.now() % 1_000_000)
const WALKS = 40

let home: TestDatabase
let db: Database
beforeAll(async () => {
  home = await createDatabase()
  db = await openDatabase({ uri: home.uri, poolSize: 4 }, () => {})
  await ensureAssistants(db, [{ graph_id: 'model', description: null }])
})
afterAll(async () => {
  await db.close()
  await home.drop()
})

/** Goes a way through the model and the code at once; `choose` says which step, or undefined to stop. Gives the steps' names. */
async function go(bounds: Bounds, of: World, choose: (steps: Step[], s: State) => Step | undefined): Promise<string[]> {
  const replay = await createReplay(db, of.maxAttempts)
  const way: string[] = []
  try {
    for (let s = initial(bounds); ; ) {
      const step = choose([...steps(s, of)], s)
      if (step === undefined) return way
      way.push(step.label())
      for (const call of step.calls) {
        await replay.act(call).catch((error: unknown) => {
          throw new Error([`${error instanceof Error ? error.message : error}, after:`, ...way].join('\n  '))
        })
      }
      s = step.next
      expect(lawBroken(s)).toBeUndefined()
      if (step.calls.length > 0) {
        expect(await replay.rows(bounds.runs), ['after:', ...way].join('\n  ')).toEqual(rowsOf(s))
      }
    }
  } finally {
    await replay.end()
  }
}

test(`the code does what the model does, on ${WALKS} random ways (seed ${seed})`, { timeout: 120_000 }, async () => {
  console.log(`seed ${seed}`)
  const random = generator(seed)
  const calls = [
    'cancel',
    'claim',
    'commit',
    'create',
    'disown',
    'expire',
    'prune',
    'removeRun',
    'removeThread',
    'renew',
    'requeue',
    'rescue',
    'rollBack',
  ]
  const seen = new Set<string>()
  let length = 0
  // What is rare comes on a way or two of forty, or on none: it goes on until everything was done.
  for (let i = 0; i < WALKS || (seen.size < calls.length && i < 10 * WALKS); i++) {
    let left = 60
    const way = await go({ runs: 4, faults: 5, asks: 4 }, world, (possible) => {
      if (left-- === 0) return undefined
      // Deleting the thread ends everything; it should not do so at once.
      const rarely = possible.filter(({ calls }) => calls[0]?.call !== 'removeThread' || random() < 0.1)
      const step = rarely[Math.floor(random() * rarely.length)]
      for (const { call } of step?.calls ?? []) seen.add(call)
      return step
    })
    length += way.length
  }
  console.log(`${length} steps`)
  expect([...seen].sort()).toEqual(calls)
})

const once = [
  'a waiting run keeps its checkpoints',
  'settle over a rollback',
  'cancel forgets a rollback',
  'requeue forgets the seq',
]

test.each(once)('the code goes the way on which "%s" would be found, and does right', async (name) => {
  const mutant = mutants.find(({ faulty }) => faulty[0] === name)
  const bounds = { runs: mutant?.runs ?? 1, faults: mutant?.faults ?? 1, asks: mutant?.asks ?? 0 }
  const found = explore(bounds, { ...world, maxAttempts: 2, outcomes: ['succeed'], faulty: new Set([name]) }).broken
  const trace = [...(found?.trace ?? [])]
  expect(trace.length).toBeGreaterThan(2)
  const way = await go(bounds, { ...world, maxAttempts: 2, outcomes: ['succeed'] }, (possible) => {
    const wanted = trace.shift()
    return wanted === undefined ? undefined : possible.find((step) => actOf(step.label()) === actOf(wanted))
  })
  expect(way.length).toBe(found?.trace.length ?? 0)
})

/** A step's name without what a mutant changes in it. */
const actOf = (label: string): string => label.replace(/, epoch.*/, '')

/** Numbers from 0 to 1 that a seed decides (mulberry32). */
function generator(from: number): () => number {
  let state = from
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
