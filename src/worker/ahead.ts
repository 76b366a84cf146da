// Runs that a worker has claimed before it has a slot for them, so that a slot that comes free need not wait for a claim. In charge
// of taking only what short runs will soon make room for, and of giving back what has to wait after all.

import type { Claimed } from '../db/queue.ts'

/** How short runs must have been lately, in milliseconds in the executor, for others to be claimed ahead. */
const SHORT_MS = 100
/** How long a run may wait here; another worker may have room for it. */
const PATIENCE_MS = 250
/** How much the last run counts in what runs took lately. */
const WEIGHT = 0.1

export interface Ahead {
  /** How many may be claimed now, beyond the slots. */
  room(): number
  put(claimed: Claimed): void
  /** The first of them, or the one named, which is the caller's then. */
  take(runId?: string): Claimed | undefined
  has(runId: string): boolean
  /** Takes note of how long the executor was at a run. */
  took(ms: number): void
  /** All of them, which are the caller's then. */
  clear(): Claimed[]
}

/** `late` is given a run that has waited too long. */
export function createAhead(options: { most: number; late: (claimed: Claimed) => void }): Ahead {
  const waiting = new Map<string, { claimed: Claimed; timer: NodeJS.Timeout }>()
  let lately = Number.POSITIVE_INFINITY

  function take(runId = waiting.keys().next().value): Claimed | undefined {
    const found = waiting.get(runId ?? '')
    if (found === undefined) return undefined
    clearTimeout(found.timer)
    waiting.delete(found.claimed.run_id)
    return found.claimed
  }

  return {
    room: () => (lately < SHORT_MS ? options.most - waiting.size : 0),
    put(claimed) {
      const timer = setTimeout(() => {
        take(claimed.run_id)
        // Those in the slots are not short.
        lately = Number.POSITIVE_INFINITY
        options.late(claimed)
      }, PATIENCE_MS)
      waiting.set(claimed.run_id, { claimed, timer })
    },
    take,
    has: (runId) => waiting.has(runId),
    took(ms) {
      lately = Number.isFinite(lately) ? lately + (ms - lately) * WEIGHT : ms
    },
    clear: () => [...waiting.keys()].flatMap((runId) => take(runId) ?? []),
  }
}
