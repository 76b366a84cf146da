// The statements of src/db as the model sees them: each function changes a state as the one statement (or the one
// transaction) that it names does. Every change of a run's status goes through the table of runs/lifecycle.ts; a change that the
// table refuses is a broken law. The only place that knows of mutants in SQL.

import type { RunStatus } from '../../src/db/runs.ts'
import { type RunEvent, transitions } from '../../src/runs/lifecycle.ts'
import { type Claim, type Entry, isActive, isEnded, NONE, type Run, type State } from './state.ts'

/** Ways to be wrong, switched on by name. */
export type Faulty = ReadonlySet<string>

/** What the model mirrors of the code, by module of src/db. The functions here carry the same names. */
export const mirrors = {
  queue: ['renew', 'claim', 'disown', 'wishes', 'abandoned', 'requeue', 'end', 'lockHeld', 'heldBy'],
  runs: ['lockThread', 'active', 'interruptPending', 'deletePending', 'wishCancel', 'remove', 'removeKeepingLog'],
  newRuns: ['insertLast'],
  journal: ['commit'],
  checkpoints: ['get', 'removeOfRun'],
  events: ['prune'],
  threads: ['remove'],
} as const

/** Notes the first law that was broken. */
export function broke(s: State, law: string): void {
  s.broken ??= law
}

function move(s: State, i: number, event: RunEvent): void {
  const run = at(s, i)
  const next = transitions[run.status as RunStatus]?.[event] ?? 'refused'
  if (next === 'refused') {
    broke(s, `table: ${event} happened to a run that is ${run.status}`)
    return
  }
  if (run.promised === 2 && next !== 'removed' && isEnded(next))
    broke(s, `rollback: run ${i} was to be rolled back and ended as ${next}`)
  if (next === 'running' && s.runs.some((other, k) => k < i && isActive(other.status)))
    broke(s, `order: run ${i} starts before an older one`)
  run.status = next
  run.worker = 0
  if (event === 'rollback' && run.progress > 0) broke(s, `rollback: run ${i} is gone and its checkpoints are not`)
}

export const at = (s: State, i: number): State['runs'][number] => s.runs[i] as State['runs'][number]

/** Whoever held the run until now holds it no more. */
function taken(s: State, run: number, epoch = -1): void {
  const mark = (claim: Claim): void => {
    if (claim.run !== run) return
    claim.old = true
    if (claim.epoch === epoch) claim.landed = true
  }
  for (const { flying, executions } of s.workers) {
    if (flying) mark(flying)
    executions.forEach(mark)
  }
  if (s.late?.run === run) s.late = { ...s.late, old: true }
}

function logged(s: State, run: number, epoch: number, first: number, last: number): void {
  const again = s.highestRun === run && s.highestEpoch === epoch
  if (first <= s.highest && !again) broke(s, `seq: ${first} was given out before`)
  at(s, run).top = Math.max(at(s, run).top, last)
  if (last <= s.highest) return
  s.highest = last
  s.highestRun = run
  s.highestEpoch = epoch
}

const lastSeq = (s: State, m: Faulty): number =>
  m.has('seq from the thread alone') ? s.lastSeq : Math.max(s.lastSeq, ...s.runs.map(({ top }) => top))

function started(s: State, i: number, m: Faulty, reserved: boolean, name: number): Claim {
  const run = at(s, i)
  move(s, i, 'claim')
  run.worker = name
  run.starts++
  if (!m.has('charge after the claim')) run.attempt++
  s.heldBy = i
  if (!m.has('claim keeps the epoch')) s.epoch++
  const ghosts = { old: false, disowned: false, landed: false }
  return { run: i, epoch: s.epoch, seq: lastSeq(s, m), name, attempt: run.attempt, reserved, ...ghosts }
}

/** queue.renew */
export function renew(s: State, name: number): void {
  s.leases[name] = true
}

/** queue.claim, with a limit of one. */
export function claim(s: State, name: number, m: Faulty): Claim | undefined {
  if (s.heldBy !== NONE && !m.has('claim on a held thread')) return undefined
  const waits = ({ status }: Run): boolean =>
    status === 'pending' || (status === 'running' && m.has('claim a run that runs'))
  const precedes = ({ status }: Run): boolean =>
    m.has('claim behind a running run') ? status === 'pending' : isActive(status)
  const next = m.has('claim in any order')
    ? s.runs.findLastIndex(waits)
    : s.runs.findIndex((run, i) => waits(run) && !s.runs.slice(0, i).some(precedes))
  return next === -1 ? undefined : started(s, next, m, false, name)
}

/** queue.disown */
export function disown(s: State, i: number): void {
  at(s, i).worker = 0
  for (const { flying } of s.workers) if (flying?.run === i) flying.disowned = true
}

/** queue.abandoned: what its `where` says. */
export const abandoned = (s: State): number =>
  s.runs.findIndex(({ status, worker }) => status === 'running' && !s.leases[worker])

/** queue.requeue of one run; gives whether it was still held at that epoch. */
export function requeue(s: State, i: number, epoch: number, uncharge: boolean, m: Faulty): boolean {
  if (s.heldBy !== i || s.epoch !== epoch) return false
  if (!m.has('requeue keeps the holder')) s.heldBy = NONE
  if (!m.has('requeue keeps the epoch')) s.epoch++
  if (!m.has('requeue forgets the seq')) s.lastSeq = lastSeq(s, m)
  const run = at(s, i)
  move(s, i, 'release')
  if (uncharge) {
    run.attempt--
    run.starts--
  }
  taken(s, i)
  return true
}

/** queue.end, and what `removeTraces` does after it in the same transaction for a rollback. */
export function end(s: State, i: number, event: 'fail' | 'cancel' | 'rollback', m: Faulty): void {
  const run = at(s, i)
  if (s.heldBy !== i) return
  const last = lastSeq(s, m) + (event === 'fail' ? 2 : 1)
  if (!m.has('end keeps the holder')) {
    s.heldBy = NONE
    s.epoch++
  }
  logged(s, i, s.epoch, lastSeq(s, m) + 1, last)
  s.lastSeq = last
  run.ends++
  if (event === 'rollback') run.progress = 0
  move(s, i, event)
  taken(s, i)
}

/** newRuns.insertLast, on the locked thread; gives a claim when it starts at once. */
export function insertLast(s: State, i: number, name: number, m: Faulty): Claim | undefined {
  const run = at(s, i)
  run.status = 'pending'
  return name === 0 ? undefined : started(s, i, m, true, name)
}

/** runs.interruptPending, or runs.deletePending with the removal of what an earlier attempt has left. */
export function endPending(s: State, i: number, event: 'cancel' | 'rollback', m: Faulty): void {
  const run = at(s, i)
  if (event === 'rollback' && !m.has('a waiting run keeps its checkpoints')) run.progress = 0
  move(s, i, event)
}

/** runs.wishCancel */
export function wishCancel(s: State, i: number, action: 1 | 2): void {
  const run = at(s, i)
  run.cancel = Math.max(run.cancel, action)
  run.promised = run.cancel
}

/** runs.remove: the row of an ended run, and its events. */
export function remove(s: State, i: number, m: Faulty): void {
  const run = at(s, i)
  if (!isEnded(run.status) && !m.has('delete any run')) return
  run.top = 0
  move(s, i, 'remove')
}

/** events.prune: events of runs that have ended or are gone. */
export function prune(s: State): void {
  for (const run of s.runs) if (!isActive(run.status)) run.top = 0
}

/** threads.remove, with all that goes with it. */
export function removeThread(s: State): void {
  s.exists = false
  s.heldBy = NONE
  s.runs.forEach((run, i) => {
    run.progress = 0
    run.top = 0
    if (run.status === 'none' || run.status === 'removed') return
    move(s, i, 'drop')
    taken(s, i)
  })
}

/** What came of a batch. `unheld`: written nowhere. `unsettled`: all but its events and its end, for the run is to be
 *  rolled back. */
export type Written = 'written' | 'unheld' | 'unsettled'

/** journal.commit of one entry. */
export function commit(s: State, entry: Entry, m: Faulty): Written {
  const { run: i, epoch, kind } = entry
  const settles = kind !== 'put'
  const held = s.exists && s.heldBy === i && (s.epoch === epoch || m.has('fence without epoch'))
  const unfenced = settles && m.has('settle without fence') && s.exists && at(s, i).status === 'running'
  if (!held && !unfenced) return 'unheld'
  if (entry.old)
    broke(s, `fencing: a write of run ${i} at epoch ${epoch} was accepted after the run was taken from its writer`)
  const run = at(s, i)
  if (kind === 'put') run.progress = Math.max(run.progress, 1)
  if (settles && run.cancel === 2 && !m.has('settle over a rollback')) return 'unsettled'
  const last = entry.first + entry.count - 1
  logged(s, i, epoch, entry.first, last)
  if (kind === 'put' || kind === '') return 'written'
  run.ends++
  if (kind === 'succeed' && run.progress < 1) broke(s, `whole: run ${i} succeeded without its checkpoints`)
  move(s, i, kind)
  s.heldBy = NONE
  s.lastSeq = last
  taken(s, i, epoch)
  return 'written'
}
