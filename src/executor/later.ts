// A run that has to wait for an executor. In charge of its handle until there is one: aborting it then ends it at once.

import type { RunHandle, RunSink } from './executor.ts'
import type { Host } from './host.ts'
import type { AbortReason, Job, Outcome } from './protocol.ts'

/** An executor that is lent for one run. */
export interface Lent {
  host: Host
  /** Called once: when the run has its outcome, or at once if it was aborted before. */
  giveBack(outcome: Outcome | undefined): void
}

/** Runs the job on the executor that comes; if none comes, nobody is to blame for it. */
export function runLater(coming: Promise<Lent>, job: Job, sink: RunSink): RunHandle {
  let handle: RunHandle | undefined
  let aborted: AbortReason | undefined
  let settle: (outcome: Outcome) => void = () => {}
  const early = new Promise<Outcome>((resolve) => {
    settle = resolve
  })
  const started = coming.then(
    async ({ host, giveBack }): Promise<Outcome> => {
      if (aborted) {
        giveBack(undefined)
        return { kind: 'aborted', reason: aborted }
      }
      handle = host.run(job, sink)
      const outcome = await handle.outcome
      giveBack(outcome)
      return outcome
    },
    (error: Error): Outcome => ({ kind: 'crashed', cause: error.message, blame: 'bystander' }),
  )
  return {
    outcome: Promise.race([started, early]),
    abort: (reason) => {
      if (handle) return handle.abort(reason)
      aborted = reason
      settle({ kind: 'aborted', reason })
    },
  }
}
