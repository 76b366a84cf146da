// The part of the checker that is about who ran what: holders, writes of those who were not, and nodes that ran again. Pure.

import type { Breach } from './checker.ts'
import { groupBy, type History, type Hold, type StatusChange, type Write } from './history.ts'
import { type LedgerEntry, NODES } from './ledger.ts'

/** Breaches of I3, I4 and I5. */
export function checkExecutions(history: History): Breach[] {
  return [...writes(history), ...holders(history), ...nodes(history)]
}

/** I3: everything written for a run was written while the run held its thread, or in the transaction that changed that. */
function writes(history: History): Breach[] {
  const holdsOf = groupBy(history.holds, ({ thread_id }) => thread_id)
  const byThread = groupBy(history.writes, ({ thread_id }) => thread_id)
  return [...byThread].flatMap(([thread_id, all]) => {
    const holds = holdsOf.get(thread_id) ?? []
    let next = 0
    return all.flatMap((write): Breach[] => {
      while (next < holds.length && (holds[next] as Hold).n < write.n) next++
      const before = holds[next - 1]
      const after = holds[next]
      const isHolder =
        before?.to === write.run_id ||
        [before, after].some(
          (hold) => hold?.tx === write.tx && (hold.from === write.run_id || hold.to === write.run_id),
        )
      if (isHolder) return []
      const what = `${write.kind} of run ${write.run_id} were written while ${before?.to ?? 'nobody'} held the thread`
      return [{ invariant: 'I3', harm: 'stale', what }]
    })
  })
}

/** I4: one holder after the other, each at a higher epoch, and one running run a thread. */
function holders(history: History): Breach[] {
  const chains = [...groupBy(history.holds, ({ thread_id }) => thread_id)].flatMap(([thread_id, holds]) =>
    holds.flatMap((hold, i): Breach[] => {
      const before = holds[i - 1]
      if (before === undefined) return []
      const isTaken = hold.from !== null && hold.to !== null && hold.from !== hold.to
      const isChained = hold.from === before.to && hold.epoch >= before.epoch
      const moves = hold.to === null || hold.epoch > before.epoch
      if (isChained && moves && !isTaken) return []
      const what = `thread ${thread_id} went from ${before.to} at ${before.epoch} to ${hold.to} at ${hold.epoch}`
      return [{ invariant: 'I4', harm: 'other', what }]
    }),
  )
  const overlaps = [...groupBy(history.statuses, ({ thread_id }) => thread_id)].flatMap(([thread_id, changes]) => {
    const running = new Set<string>()
    return changes.flatMap(({ run_id, to }): Breach[] => {
      if (to !== 'running') return running.delete(run_id) ? [] : []
      const others = [...running].filter((other) => other !== run_id)
      running.add(run_id)
      return others.map((other) => ({
        invariant: 'I4',
        harm: 'other',
        what: `runs ${other} and ${run_id} ran on thread ${thread_id} at the same time`,
      }))
    })
  })
  return [...chains, ...overlaps]
}

/** I5: an execution that was begun after a node's checkpoint was committed does not run that node. */
function nodes(history: History): Breach[] {
  const claims = groupBy(
    history.statuses.filter(({ to }) => to === 'running'),
    ({ run_id }) => run_id,
  )
  const stored = groupBy(
    history.writes.filter(({ step }) => step !== null),
    ({ run_id }) => run_id,
  )
  const began = history.ledger.filter(({ event }) => event === 'began')
  return [...groupBy(began, ({ run }) => run)].flatMap(([run, entries]) => {
    const writes = stored.get(run) ?? []
    if (new Set(entries.map(({ node }) => node)).size === entries.length || writes.length === 0) return []
    const executions = [...groupBy(entries, ({ attempt, pid }) => `${attempt} ${pid}`).values()]
    return executions.flatMap((execution) => again(execution, claims.get(run) ?? [], writes))
  })
}

function again(execution: LedgerEntry[], claims: StatusChange[], writes: Write[]): Breach[] {
  const first = execution[0] as LedgerEntry
  const claim = claims.findLast(({ attempt, at }) => attempt === first.attempt && at <= first.t + 1)
  if (claim === undefined) return []
  // The first step's checkpoint is that of the start: nothing had run then.
  const start = Math.min(...writes.map(({ step }) => step as number))
  return execution.flatMap(({ run, node, attempt }): Breach[] => {
    const own = start + 1 + NODES.indexOf(node as (typeof NODES)[number])
    const committed = writes.find(({ step }) => step === own)
    if (committed === undefined || committed.n > claim.n) return []
    const what = `attempt ${attempt} of run ${run} ran node ${node} again, which was committed before it began`
    return [{ invariant: 'I5', harm: 'duplicated', what }]
  })
}
