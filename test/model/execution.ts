// A run as a worker executes it: read the checkpoint, run the node, write batch after batch, and end; hear that it is to stop, give
// up, roll back, be given back. Replies may be lost and statements may be late.

import type { Outcome } from '../../src/executor/protocol.ts'
import { judge } from '../../src/runs/settle.ts'
import type { Call, Step, World } from './actions.ts'
import { type Batch, copy, type Entry, type Execution, isActive, isEnded, type State, type Worker } from './state.ts'
import * as sql from './statements.ts'

const worker = (s: State, w: number): Worker => s.workers[w] as Worker
const execution = (s: State, w: number, e: number): Execution => worker(s, w).executions[e] as Execution

/** A batch, for people. */
export const told = ({ run, epoch, first, kind }: Entry): string =>
  `${kind} of run ${run}, epoch ${epoch}, seq ${first}`

/** Everything that may happen next to one execution of a worker. */
export function* executionSteps(s: State, w: number, e: number, world: World): Generator<Step> {
  const now = execution(s, w, e)
  const run = s.runs[now.run] as State['runs'][number]
  const { trusted } = worker(s, w)
  if (now.sent !== '') {
    if (trusted) return yield* send(s, w, e, now.sent, world)
    const next = copy(s)
    giveUp(execution(next, w, e))
    return yield { label: () => `worker ${w} gives up ${now.sent} of run ${now.run}`, fair: true, next, calls: [] }
  }
  // The message, or the look at the database when it is lost.
  const wish = run.cancel === 2 ? 'rollback' : 'cancel'
  if (run.cancel > 0 && isActive(run.status) && now.reason !== 'lease_lost' && now.reason !== wish) {
    const next = copy(s)
    execution(next, w, e).reason = wish
    yield {
      label: () => `worker ${w} hears that run ${now.run} is to stop: ${wish}`,
      fair: run.worker === worker(s, w).name,
      next,
      calls: [],
    }
  }
  if (now.reason === 'lease_lost' && !world.faulty.has('settle after losing the lease')) {
    return yield { label: () => `worker ${w} abandons run ${now.run}`, fair: true, next: without(s, w, e), calls: [] }
  }
  if (now.reason === 'rollback') return yield* rollBack(s, w, e, world)
  if (now.reason === 'cancel') yield* send(s, w, e, 'cancel', world)
  if (now.phase === 'claimed') yield begin(s, w, e, world)
  if (now.phase === 'node') yield* send(s, w, e, 'put', world)
  if (now.phase === 'dead') yield* send(s, w, e, 'fail', world)
  if (now.phase === 'done') for (const outcome of world.outcomes) yield* send(s, w, e, outcome, world)
  if (now.phase !== 'dead' && s.faults > 0) yield* givenBack(s, w, e, world)
}

/** Reads where an earlier attempt has come to, and runs the node after it. */
function begin(s: State, w: number, e: number, { faulty }: World): Step {
  const next = copy(s)
  const now = execution(next, w, e)
  const run = sql.at(next, now.run)
  now.phase = run.progress > 0 && !faulty.has('begin anew') ? 'done' : 'node'
  if (now.phase === 'node' && run.progress > 0 && !now.old)
    sql.broke(next, `nodes: a committed node of run ${now.run} is run again`)
  if (faulty.has('charge after the claim') && !now.old) run.attempt++
  return { label: () => `worker ${w} runs run ${now.run} up to ${now.phase}`, fair: true, next, calls: [] }
}

function* send(s: State, w: number, e: number, kind: Batch, { faulty }: World): Generator<Step> {
  const { run, epoch, seq, old, sent } = execution(s, w, e)
  if (!worker(s, w).trusted) return
  const entry: Entry = { run, epoch, first: seq + 1, count: countOf(kind), kind, old }
  const heard = copy(s)
  if (faulty.has('publish before the commit') && kind !== 'put') published(heard, run)
  const result = sql.commit(heard, entry, faulty)
  const calls: Call[] = [{ call: 'commit', entry, result }]
  if (result === 'written' && kind !== 'put') published(heard, run)
  const next = result === 'unheld' || (result === 'written' && kind !== 'put') ? without(heard, w, e) : heard
  if (next === heard) {
    const now = execution(heard, w, e)
    now.sent = ''
    now.seq += entry.count
    if (kind === 'put') now.phase = now.torn ? 'node' : 'done'
    if (result === 'unsettled') now.reason = 'rollback'
  }
  yield { label: () => `worker ${w} writes ${told(entry)}: ${result}`, fair: true, next, calls }
  if (s.faults === 0) return
  const lost = copy(s)
  lost.faults--
  sql.commit(lost, entry, faulty)
  execution(lost, w, e).sent = kind
  yield { label: () => `worker ${w} writes ${told(entry)} and hears nothing`, fair: false, next: lost, calls }
  if (s.late !== undefined || sent !== '') return
  const late = copy(s)
  late.faults--
  late.late = entry
  execution(late, w, e).sent = kind
  yield { label: () => `worker ${w} sends ${told(entry)}, which is late`, fair: false, next: late, calls: [] }
}

const countOf = (kind: Batch): number => (kind === 'fail' || kind === 'expire' ? 2 : 1)

/** Clients see the end from now on: then they must be able to read the result. */
function published(s: State, i: number): void {
  const { status } = sql.at(s, i)
  if (!isEnded(status) && status !== 'removed')
    sql.broke(s, `result: clients saw the end of run ${i} while it is ${status}`)
}

function giveUp(now: Execution): void {
  now.seq += countOf(now.sent)
  if (now.sent === 'put') Object.assign(now, { torn: true, phase: 'done' })
  now.sent = ''
  now.reason = 'lease_lost'
}

function without(s: State, w: number, e: number): State {
  const next = copy(s)
  worker(next, w).executions.splice(e, 1)
  return next
}

/** One transaction: lockHeld, end, removeTraces. */
function* rollBack(s: State, w: number, e: number, { faulty }: World): Generator<Step> {
  const { run, epoch, old } = execution(s, w, e)
  const next = without(s, w, e)
  if (s.exists && s.heldBy === run && s.epoch === epoch) {
    if (old) sql.broke(next, `fencing: run ${run} was rolled back after it was taken`)
    sql.end(next, run, 'rollback', faulty)
  }
  yield {
    label: () => `worker ${w} rolls run ${run} back`,
    fair: true,
    next,
    calls: [{ call: 'rollBack', run, epoch }],
  }
  if (s.faults > 0) yield unheard(without(s, w, e), `worker ${w} fails to roll run ${run} back`)
}

const losses: { cause: string; outcome: Outcome }[] = [
  { cause: 'its executor dies of it', outcome: { kind: 'crashed', cause: 'died', blame: 'culprit' } },
  { cause: 'the worker is to stop', outcome: { kind: 'aborted', reason: 'shutdown' } },
]

/** Its executor dies, or the worker is told to stop. */
function* givenBack(s: State, w: number, e: number, { faulty, maxAttempts }: World): Generator<Step> {
  const { run, epoch, attempt, old } = execution(s, w, e)
  const settings = { attempt, attemptsLeft: maxAttempts - attempt, runTimeoutSeconds: 1 }
  for (const { cause, outcome } of losses) {
    const verdict = judge(outcome, settings)
    if (verdict.do === 'settle') {
      const next = copy(s)
      next.faults--
      execution(next, w, e).phase = 'dead'
      yield { label: () => `worker ${w}: ${cause}, for the last time`, fair: false, next, calls: [] }
    }
    if (verdict.do !== 'release') continue
    const { uncharge } = verdict
    const next = without(s, w, e)
    next.faults--
    const released = sql.requeue(next, run, epoch, uncharge, faulty)
    if (released && old) sql.broke(next, `fencing: run ${run} was given back after it was taken`)
    const calls: Call[] = [{ call: 'requeue', run, epoch, uncharge }]
    yield { label: () => `worker ${w}: ${cause}, and run ${run} is given back`, fair: false, next, calls }
    if (s.faults > 1) yield unheard(unheardOf(s, w, e), `worker ${w}: ${cause}, and run ${run} is not given back`)
  }
}

const unheardOf = (s: State, w: number, e: number): State => {
  const next = without(s, w, e)
  next.faults--
  return next
}

function unheard(next: State, label: string): Step {
  next.faults--
  return { label: () => label, fair: false, next, calls: [] }
}
