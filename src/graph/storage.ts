// What executors may read: checkpoints and the store. In charge of a run reading its own writes, which may still be on
// their way into the database.

import * as checkpoints from '../db/checkpoints.ts'
import type { Db } from '../db/db.ts'
import { all } from '../db/sql.ts'
import * as store from '../db/store.ts'
import type { Storage } from '../executor/executor.ts'

export function createStorage(deps: { db: Db; flushed: (threadId: string) => Promise<void> }): Storage {
  const { db, flushed } = deps
  return {
    'checkpoint.get': async (which) => {
      await flushed(which.thread_id)
      return checkpoints.get(db, which)
    },
    'checkpoint.list': async (which) => {
      await flushed(which.thread_id)
      return checkpoints.list(db, which)
    },
    'store.batch': ({ ops }) => store.batch(db, ops, all),
  }
}
