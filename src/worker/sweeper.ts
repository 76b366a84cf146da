// Ends the time of threads, and collects what runs left over. In charge of doing it in small transactions, from any number of
// processes at once, and never under a run; what is removed is decided by db/retention.ts.

import type { Db } from '../db/db.ts'
import * as retention from '../db/retention.ts'
import type { Observe } from '../observe.ts'
import { createLoop, type Loop } from './loop.ts'

/** Looks at intervals, and ends the time of at most `limit` threads each time. */
export function createSweeper(deps: { db: Db; observe: Observe }, options: { everyMs: number; limit: number }): Loop {
  const { db, observe } = deps
  return createLoop({
    service: 'sweep',
    everyMs: options.everyMs,
    observe,
    runOnce: async () => {
      const total = { deleted: 0, pruned: 0, collected: 0 }
      for (let left = options.limit; left > 0; ) {
        const { deleted, pruned } = await retention.sweepExpired(db, left)
        if (deleted + pruned === 0) break
        total.deleted += deleted
        total.pruned += pruned
        left -= deleted + pruned
      }
      for (let left = options.limit; left > 0; ) {
        const collected = await retention.sweepLeftovers(db)
        if (collected === 0) break
        total.collected += collected
        left -= collected
      }
      if (total.deleted + total.pruned + total.collected > 0) observe({ kind: 'threads_swept', ...total })
    },
  })
}
