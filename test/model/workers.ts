// What two workers do: renew, claim, execute, write, settle, rescue, disown; and what happens to them: crashes, lost leases, lost
// replies, statements that arrive late. Each action is one statement (or one transaction) or one step in memory.

import type { Step, World } from './actions.ts'
import { executionSteps, told } from './execution.ts'
import { type Claim, copy, type Execution, type State, type Worker } from './state.ts'
import * as sql from './statements.ts'

const SLOTS = 2
const worker = (s: State, w: number): Worker => s.workers[w] as Worker
/** What a worker makes of a run that it hears is its own. */
const begun = (claim: Claim): Execution => ({ ...claim, phase: 'claimed', reason: '', sent: '', torn: false })

/** Everything the workers may do next. */
export function* workerSteps(s: State, world: World): Generator<Step> {
  for (const w of [0, 1]) {
    yield* leaseSteps(s, w, world)
    yield* queueSteps(s, w, world)
    const { executions } = worker(s, w)
    for (let e = 0; e < executions.length; e++) yield* executionSteps(s, w, e, world)
  }
  yield* environmentSteps(s, world)
}

function* leaseSteps(s: State, w: number, { faulty }: World): Generator<Step> {
  const { up, trusted, name } = worker(s, w)
  if (!up) {
    const next = copy(s)
    Object.assign(worker(next, w), { up: true, name: next.leases.push(false) - 1 })
    yield { label: () => `worker ${w} starts again`, fair: true, next, calls: [] }
  }
  if (up && !trusted) {
    const next = copy(s)
    sql.renew(next, name)
    worker(next, w).trusted = true
    yield { label: () => `worker ${w} takes a lease`, fair: true, next, calls: [{ call: 'renew', name }] }
  }
  if (s.faults === 0) return
  if (up) {
    const next = copy(s)
    next.faults--
    Object.assign(worker(next, w), { up: false, trusted: false, flying: undefined, executions: [] })
    yield { label: () => `worker ${w} is killed`, fair: false, next, calls: [] }
  }
  if (trusted) {
    const next = copy(s)
    next.faults--
    const late = worker(next, w)
    late.trusted = false
    if (!faulty.has('renew after expiry')) {
      late.name = next.leases.push(false) - 1
      for (const one of late.executions) one.reason = 'lease_lost'
    }
    yield { label: () => `worker ${w} could not renew and trusts its lease no more`, fair: false, next, calls: [] }
  }
}

function* environmentSteps(s: State, { faulty }: World): Generator<Step> {
  for (let name = 1; name < s.leases.length; name++) {
    const trusted = s.workers.some((one) => one.up && one.trusted && one.name === name)
    if (s.leases[name] && (!trusted || (faulty.has('trust past the lease') && s.faults > 0))) {
      const next = copy(s)
      next.leases[name] = false
      if (trusted) next.faults--
      yield { label: () => `the lease of ${name} runs out`, fair: !trusted, next, calls: [{ call: 'expire', name }] }
    }
    const given = !s.workers.some((one) => one.name === name)
    if (!s.leases[name] && given && s.faults > 0 && s.runs.some((run) => run.worker === name)) {
      const next = copy(s)
      next.faults--
      sql.renew(next, name)
      yield { label: () => `a late renewal of ${name} arrives`, fair: false, next, calls: [{ call: 'renew', name }] }
    }
  }
  if (s.late !== undefined) {
    const entry = s.late
    const next = copy(s)
    next.late = undefined
    const result = sql.commit(next, entry, faulty)
    yield {
      label: () => `the late statement arrives: ${told(entry)}`,
      fair: false,
      next,
      calls: [{ call: 'commit', entry, result }],
    }
  }
}

function* queueSteps(s: State, w: number, { faulty, maxAttempts }: World): Generator<Step> {
  const { up, trusted, name, flying, executions } = worker(s, w)
  if (flying !== undefined) {
    const next = copy(s)
    const me = worker(next, w)
    me.flying = undefined
    if (flying.name === name) me.executions.push(begun(flying))
    yield { label: () => `worker ${w} hears that run ${flying.run} is its own`, fair: true, next, calls: [] }
  }
  if (flying !== undefined && s.faults > 0) {
    const next = copy(s)
    next.faults--
    worker(next, w).flying = undefined
    yield { label: () => `worker ${w} never hears that run ${flying.run} is its own`, fair: false, next, calls: [] }
  }
  if (!up) return
  if (trusted && flying === undefined && executions.length < SLOTS) {
    const next = copy(s)
    const claimed = sql.claim(next, name, faulty)
    if (claimed !== undefined) {
      worker(next, w).flying = claimed
      if (claimed.attempt > maxAttempts || (next.runs[claimed.run]?.starts ?? 0) > maxAttempts)
        sql.broke(next, `attempts: run ${claimed.run} is tried more than ${maxAttempts} times`)
      yield {
        label: () => `worker ${w} claims run ${claimed.run}`,
        fair: true,
        next,
        calls: [{ call: 'claim', name, claimed }],
      }
    }
  }
  const stray = s.runs.findIndex(
    (run, i) =>
      run.status === 'running' &&
      run.worker === name &&
      !executions.some((one) => one.run === i) &&
      !(flying?.reserved && flying.run === i),
  )
  // It looks twice, so what is merely on its way is disowned only when it takes very long.
  const slow = flying?.run === stray
  if (stray >= 0 && !faulty.has('no disowning') && (!slow || s.faults > 0)) {
    const next = copy(s)
    if (slow) next.faults--
    sql.disown(next, stray)
    yield {
      label: () => `worker ${w} disowns run ${stray}`,
      fair: !slow,
      next,
      calls: [{ call: 'disown', name, run: stray }],
    }
  }
  const found = sql.abandoned(s)
  const left =
    faulty.has('no rescue') || (faulty.has('rescue leaves what is to be cancelled') && s.runs[found]?.cancel !== 0)
  if (found >= 0 && !left) {
    const next = copy(s)
    const run = sql.at(next, found)
    if (run.cancel === 0 && (run.attempt < maxAttempts || faulty.has('rescue without limit'))) {
      sql.requeue(next, found, next.epoch, false, faulty)
    } else {
      if (run.cancel === 0 && run.attempt !== maxAttempts)
        sql.broke(next, `attempts: run ${found} fails after ${run.attempt}`)
      sql.end(next, found, run.cancel === 0 ? 'fail' : run.cancel === 1 ? 'cancel' : 'rollback', faulty)
    }
    yield { label: () => `worker ${w} rescues run ${found}`, fair: true, next, calls: [{ call: 'rescue' }] }
  }
}
