// All that may happen next in a state: the workers' part, and the clients' part which is here: creating with every way of double
// texting, cancelling, deleting. An action also says which calls of the code it stands for, so that a trace can be replayed.

import { type Batch, type Claim, copy, type Entry, isActive, isEnded, type State, type Worker } from './state.ts'
import * as sql from './statements.ts'
import { workerSteps } from './workers.ts'

/** A call of the code that changes the database (or the clock's part in it). */
export type Call =
  | { call: 'renew' | 'expire'; name: number }
  | { call: 'claim'; name: number; claimed: Claim }
  | { call: 'disown'; name: number; run: number }
  | { call: 'rescue' }
  | { call: 'commit'; entry: Entry; result: sql.Written }
  | { call: 'rollBack'; run: number; epoch: number }
  | { call: 'requeue'; run: number; epoch: number; uncharge: boolean }
  | { call: 'create'; run: number; strategy: Strategy; name: number; claimed: Claim | undefined }
  | { call: 'cancel'; run: number; action: 'interrupt' | 'rollback' }
  | { call: 'removeRun'; run: number }
  | { call: 'prune' }
  | { call: 'removeThread' }

export type Strategy = 'enqueue' | 'interrupt' | 'rollback' | 'reject'

export interface Step {
  label: () => string
  /** It happens sooner or later when it stays possible: nobody has to ask, and nothing has to fail. */
  fair: boolean
  next: State
  calls: Call[]
}

/** What does not change. */
export interface World {
  maxAttempts: number
  strategies: readonly Strategy[]
  /** How a graph may come to its end. */
  outcomes: readonly Batch[]
  faulty: sql.Faulty
}

/** Everything that may happen next. */
export function* steps(s: State, world: World): Generator<Step> {
  yield* workerSteps(s, world)
  if (!s.exists) return
  const i = s.runs.findIndex(({ status }) => status === 'none')
  if (i >= 0) for (const strategy of world.strategies) yield* creations(s, i, strategy, world)
  if (s.asks > 0) yield* asked(s, world)
}

function* creations(s: State, i: number, strategy: Strategy, { faulty }: World): Generator<Step> {
  const active = s.runs.map((_, k) => k).filter((k) => isActive(sql.at(s, k).status))
  // On a free thread all strategies are one, and a busy one rejects without a trace.
  if (active.length === 0 ? strategy !== 'enqueue' : strategy === 'reject') return
  for (const w of [undefined, 0, 1]) {
    const me = w === undefined ? undefined : (s.workers[w] as Worker)
    if (me !== undefined && (!me.up || !me.trusted || me.flying !== undefined || me.executions.length > 1)) continue
    const next = copy(s)
    if (strategy === 'interrupt' || strategy === 'rollback')
      for (const k of active) planCancel(next, k, strategy, faulty)
    const waits = active.some((k) => isActive(sql.at(next, k).status)) && !faulty.has('create does not look')
    if (waits && me !== undefined) continue
    const claimed = sql.insertLast(next, i, me?.name ?? 0, faulty)
    if (claimed !== undefined && w !== undefined) (next.workers[w] as Worker).flying = claimed
    const where = me === undefined ? 'to wait' : `on worker ${w}`
    const calls: Call[] = [{ call: 'create', run: i, strategy, name: me?.name ?? 0, claimed }]
    yield { label: () => `a client creates run ${i} (${strategy}) ${where}`, fair: false, next, calls }
  }
}

/** runs/cancel.ts, for one run under the thread's lock. A rollback asked for once stays a rollback. */
function planCancel(s: State, i: number, asked: 'interrupt' | 'rollback', faulty: sql.Faulty): void {
  const run = sql.at(s, i)
  const rollback = asked === 'rollback' || (run.cancel === 2 && !faulty.has('cancel forgets a rollback'))
  if (asked === 'rollback') run.promised = 2
  const event = rollback ? 'rollback' : 'cancel'
  if (run.status === 'pending') sql.endPending(s, i, event, faulty)
  else if (s.leases[run.worker] && !faulty.has('cancel ends what runs')) sql.wishCancel(s, i, rollback ? 2 : 1)
  else sql.end(s, i, event, faulty)
}

function* asked(s: State, { faulty }: World): Generator<Step> {
  for (let i = 0; i < s.runs.length; i++) {
    const { status, top } = sql.at(s, i)
    for (const action of isActive(status) ? (['interrupt', 'rollback'] as const) : []) {
      const next = asking(s)
      planCancel(next, i, action, faulty)
      yield {
        label: () => `a client cancels run ${i} (${action})`,
        fair: false,
        next,
        calls: [{ call: 'cancel', run: i, action }],
      }
    }
    if (isEnded(status) || (faulty.has('delete any run') && isActive(status))) {
      const next = asking(s)
      sql.remove(next, i, faulty)
      yield { label: () => `a client deletes run ${i}`, fair: false, next, calls: [{ call: 'removeRun', run: i }] }
    }
    if (top > 0 && (isEnded(status) || status === 'removed')) {
      const next = asking(s)
      sql.prune(next)
      yield { label: () => 'old events are pruned', fair: false, next, calls: [{ call: 'prune' }] }
    }
  }
  const next = asking(s)
  sql.removeThread(next)
  yield { label: () => 'a client deletes the thread', fair: false, next, calls: [{ call: 'removeThread' }] }
}

const asking = (s: State): State => {
  const next = copy(s)
  next.asks--
  return next
}
