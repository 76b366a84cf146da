// What tells two states apart. Names of workers are told by whose they are, seqs and epochs by their order alone, the two
// workers may change places, and what of an ended run matters to nothing any more is left out.

import {
  batches,
  type Claim,
  type Entry,
  isActive,
  phases,
  reasons,
  type State,
  type Status,
  type Worker,
} from './state.ts'

const statuses: Status[] = ['none', 'pending', 'running', 'success', 'error', 'timeout', 'interrupted', 'removed']

/** The same for states that differ in nothing that matters. */
export function keyOf(s: State): string {
  const seqs = [s.lastSeq, s.highest]
  const epochs = [s.epoch, s.highestEpoch]
  const note = (seq: number, of: number): void => {
    seqs.push(seq)
    epochs.push(of)
  }
  for (const { top } of s.runs) seqs.push(top)
  for (const { flying, executions } of s.workers) {
    if (flying) note(flying.seq, flying.epoch)
    for (const one of executions) note(one.seq, one.epoch)
  }
  if (s.late) note(s.late.first - 1, s.late.epoch)
  const [seq, epoch] = [ranks(seqs), ranks(epochs)]
  const one = printed(s, 0, seq, epoch)
  const other = printed(s, 1, seq, epoch)
  if (other < one) return other
  return one
}

function ranks(values: number[]): Rank {
  values.sort((a, b) => a - b)
  const rank: number[] = []
  let distinct = 0
  for (const value of values) rank[value] ??= distinct++
  return (value) => rank[value] as number
}

type Rank = (value: number) => number

function printed(s: State, first: 0 | 1, seq: Rank, epoch: Rank): string {
  const out: number[] = []
  const mine = s.workers[first] as Worker
  const others = s.workers[1 - first] as Worker
  const nameOf = (name: number) =>
    name === 0 ? 0 : name === mine.name ? 1 : name === others.name ? 2 : s.leases[name] ? 3 : 4
  out.push(bits(s.exists), s.heldBy + 1, epoch(s.epoch), seq(s.lastSeq), s.faults, s.asks)
  out.push(seq(s.highest), s.highestRun + 1, epoch(s.highestEpoch))
  for (const run of s.runs) {
    out.push(statuses.indexOf(run.status), run.top === 0 ? 0 : seq(run.top) + 1, run.ends)
    if (isActive(run.status)) {
      out.push(nameOf(run.worker), run.attempt, run.cancel * 3 + run.promised, run.progress, run.starts)
    }
  }
  for (const worker of [mine, others]) {
    out.push(bits(worker.up, worker.trusted, s.leases[worker.name] === true, worker.flying !== undefined))
    if (worker.flying) claimed(out, worker.flying, worker.name, seq, epoch)
    out.push(worker.executions.length)
    for (const one of worker.executions) {
      claimed(out, one, worker.name, seq, epoch)
      out.push(phases.indexOf(one.phase), reasons.indexOf(one.reason), batches.indexOf(one.sent), bits(one.torn))
    }
  }
  if (s.late) entry(out, s.late, seq, epoch)
  return String.fromCharCode(...out)
}

function claimed(out: number[], claim: Claim, name: number, seq: Rank, epoch: Rank): void {
  const { old, disowned, landed, reserved } = claim
  out.push(claim.run, epoch(claim.epoch), seq(claim.seq), claim.attempt)
  out.push(bits(claim.name === name, reserved, old, disowned, landed))
}

function entry(out: number[], late: Entry, seq: Rank, epoch: Rank): void {
  out.push(late.run, epoch(late.epoch), seq(late.first - 1), batches.indexOf(late.kind), bits(late.old))
}

const bits = (...flags: boolean[]): number => flags.reduce((all, flag) => all * 2 + (flag ? 1 : 0), 0)
