// What an outcome means: how the run ends and how it leaves its thread. Pure; the one exhaustive switch over outcomes.

import type { Settlement } from '../db/journal.ts'
import type { FinalState, Outcome, RunError, Text } from '../executor/protocol.ts'
import { transitions } from './lifecycle.ts'

/** What to do with a run whose executor is done with it. */
export type Verdict =
  | { do: 'settle'; settlement: Omit<Settlement, 'last_seq' | 'doom' | 'webhook'>; error: RunError | null }
  /** Remove the run and its checkpoints, and leave the thread as it was before. */
  | { do: 'roll_back' }
  /** Put it back into the queue; `uncharge` when it was not its own fault, `suspect` to have it run alone. */
  | { do: 'release'; uncharge: boolean; suspect: boolean }
  /** Another worker owns it: write nothing. */
  | { do: 'abandon' }

/** Judges an outcome. `attemptsLeft` counts the tries a crashed run still has. */
export function judge(
  outcome: Outcome,
  run: { attempt: number; attemptsLeft: number; runTimeoutSeconds: number },
): Verdict {
  switch (outcome.kind) {
    case 'success':
      return settle(transitions.running.succeed, outcome.state, null)
    case 'error':
      return settle(transitions.running.fail, outcome.state, outcome.error)
    case 'crashed':
      // Nobody is charged for what another run did, or may have done.
      if (outcome.blame !== 'culprit') return { do: 'release', uncharge: true, suspect: outcome.blame === 'suspect' }
      if (run.attemptsLeft > 0) return { do: 'release', uncharge: false, suspect: true }
      return settle(transitions.running.fail, undefined, exhausted(run.attempt, outcome.cause))
    case 'aborted':
      switch (outcome.reason) {
        case 'cancel':
          return settle(transitions.running.cancel, outcome.state, null)
        case 'rollback':
          return { do: 'roll_back' }
        case 'timeout':
          return settle(transitions.running.expire, outcome.state, {
            error: 'RunTimeout',
            message: `The run was stopped after ${run.runTimeoutSeconds} s, the longest a run may take.`,
          })
        case 'lease_lost':
          return { do: 'abandon' }
        case 'shutdown':
          return { do: 'release', uncharge: true, suspect: false }
      }
  }
}

/** The truthful error of a run that crashed once too often. */
export const exhausted = (attempts: number, cause: string): RunError => ({
  error: 'RunCrashed',
  message: `The run crashed ${attempts} time${attempts === 1 ? '' : 's'} and is not tried again. The last time it ${cause}.`,
})

function settle(to: string, state: FinalState<Text> | undefined, error: RunError | null): Verdict {
  const status = to as Settlement['status']
  const waiting = state !== undefined && (state.next.length > 0 || Object.keys(state.interrupts).length > 0)
  return {
    do: 'settle',
    error,
    settlement: {
      status,
      error,
      values: state?.values ?? null,
      interrupts: state?.interrupts ?? {},
      settled_status: error !== null ? 'error' : waiting ? 'interrupted' : 'idle',
    },
  }
}
