// What executors may read: checkpoints and the store. In charge of a run reading its own writes, which may still be on
// their way into the database.

import * as checkpoints from '../db/checkpoints.ts'
import type { Db } from '../db/db.ts'
import { all } from '../db/sql.ts'
import { isOutage } from '../db/sqlstate.ts'
import type { Storage } from '../executor/executor.ts'
import type { Store } from './store.ts'

/** How long a read outlasts an outage: a run whose worker is cut off for longer has lost its lease. */
const PATIENCE_MS = 20_000

export function createStorage(deps: {
  db: Db
  store: Pick<Store, 'batch'>
  flushed: (threadId: string) => Promise<void>
}): Storage {
  const { db, store, flushed } = deps
  return {
    'checkpoint.get': async (which) => {
      await flushed(which.thread_id)
      return patient(() => checkpoints.get(db, which))
    },
    'checkpoint.list': async (which) => {
      await flushed(which.thread_id)
      return patient(() => checkpoints.list(db, which))
    },
    'store.batch': ({ ops }) => patient(() => store.batch(ops, all)),
  }
}

/** A graph must not fail because the database was away for a moment. What is asked may be asked twice. */
async function patient<T>(ask: () => Promise<T>): Promise<T> {
  const until = performance.now() + PATIENCE_MS
  for (let wait = 50; ; wait = Math.min(wait * 2, 1_000)) {
    try {
      return await ask()
    } catch (error) {
      if (!isOutage(error) || performance.now() + wait > until) throw error
      await new Promise((resolve) => setTimeout(resolve, wait))
    }
  }
}
