// The laws that every state must keep. Those that are about a single change are noted where the change is made
// (statements.ts, workers.ts).

import { isActive, type State } from './state.ts'

/** The law that a state breaks, in words; undefined when it keeps all. */
export function lawBroken(s: State): string | undefined {
  if (s.broken !== undefined) return s.broken
  const running = s.runs.flatMap(({ status }, i) => (status === 'running' ? [i] : []))
  if (running.length > 1) return `one running: runs ${running.join(' and ')} run at once`
  if (s.exists && s.heldBy !== (running[0] ?? -1))
    return `holder: the thread is held by ${s.heldBy}, running is ${running}`
  for (const [i, run] of s.runs.entries()) {
    if (run.ends > 1) return `one end: run ${i} has ended ${run.ends} times`
    if (run.ends === 1 && isActive(run.status))
      return `result: the log has the end of run ${i} while it is ${run.status}`
  }
  for (const [w, { up, name, trusted, executions }] of s.workers.entries()) {
    if (!up || !trusted || !s.exists) continue
    for (const one of executions) {
      if (one.name !== name || one.disowned || one.landed || one.reason === 'lease_lost') continue
      if (one.old)
        return `self-fencing: worker ${w} trusts its lease and executes run ${one.run}, which was taken from it`
    }
  }
  return undefined
}

/** Nothing is left to do: every run has ended. */
export const isOver = (s: State): boolean => s.runs.every(({ status }) => !isActive(status))
