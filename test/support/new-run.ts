// A run as it is inserted, where a test cares for a part of it only.

import { v7 } from 'uuid'
import type { NewRun } from '../../src/db/new-runs.ts'

/** A run that waits for a worker, on a thread of its own; `more` says what is otherwise. */
export const newRun = (more: Partial<NewRun> = {}): NewRun => ({
  run_id: v7(),
  thread_id: v7(),
  assistant_id: v7(),
  graph_id: 'g',
  defaults: {},
  metadata: {},
  kwargs: {},
  multitask_strategy: 'enqueue',
  after_seconds: 0,
  temporary: false,
  worker_id: null,
  ...more,
})
