// What is swept away with time: temporary threads, old events, used keys, old deliveries, and the room of what was replaced. In
// charge of doing it in small batches, from any number of processes. Threads whose time is over are the sweeper's (sweeper.ts),
// items the item sweeper's (item-sweeper.ts).

import * as crons from '../db/crons.ts'
import type { Database, Db } from '../db/db.ts'
import * as events from '../db/events.ts'
import * as idempotency from '../db/idempotency.ts'
import * as queue from '../db/queue.ts'
import * as webhooks from '../db/webhooks.ts'
import type { Observe } from '../observe.ts'
import { createLoop, type Loop } from './loop.ts'

const BATCH = 500
/** How long the events of a temporary run can still be read by those who follow it from another process. */
const DOOMED_SECONDS = 60

export function createPruner(
  deps: { db: Pick<Database, keyof Db | 'reclaim'>; observe: Observe },
  options: { eventTtlSeconds: number; webhookTtlSeconds: number; everyMs: number },
): Loop {
  const { db, observe } = deps
  const sweeps: (() => Promise<number>)[] = [
    () => queue.sweepDoomed(db, DOOMED_SECONDS, BATCH),
    () => events.prune(db, options.eventTtlSeconds, BATCH),
    () => idempotency.sweep(db, BATCH),
    () => webhooks.prune(db, options.webhookTtlSeconds, BATCH),
    () => crons.sweepRuns(db, BATCH),
  ]
  return createLoop({
    service: 'prune',
    everyMs: options.everyMs,
    observe,
    runOnce: async () => {
      for (const sweep of sweeps) {
        // A bound, so that a backlog is worked off over several rounds and not in one.
        for (let rounds = 0; rounds < 20 && (await sweep()) >= BATCH; rounds++);
      }
      await queue.sweepWorkers(db)
      await db.reclaim?.()
    },
  })
}
