// Deletes store items whose time is over, as often as is configured. In charge of nothing else: what has expired is not there
// for anybody before it is deleted.

import type { Db } from '../db/db.ts'
import * as store from '../db/store.ts'
import type { Observe } from '../observe.ts'
import { createLoop, type Loop } from './loop.ts'

const BATCH = 500

export const createItemSweeper = (deps: { db: Db; observe: Observe }, options: { everyMs: number }): Loop =>
  createLoop({
    service: 'sweep items',
    everyMs: options.everyMs,
    observe: deps.observe,
    runOnce: async () => {
      while ((await store.sweepExpired(deps.db, BATCH)) >= BATCH);
    },
  })
