// Rescue of runs whose worker is gone. In charge of putting them back into the queue, or ending those that crashed too
// often or were to be cancelled; any number of rescuers may look at once.

import type { Bus } from '../bus/bus.ts'
import type { Db } from '../db/db.ts'
import * as queue from '../db/queue.ts'
import { isOutage } from '../db/sqlstate.ts'
import type { Fail } from '../failpoints.ts'
import type { Observe } from '../observe.ts'
import { announce, type CancelPlan, removeTraces } from '../runs/cancel.ts'
import { lastBatch } from '../runs/log.ts'
import { exhausted } from '../runs/settle.ts'

/** Few at a time, so that a transaction holds few threads, and for a moment; a round goes on until there are no more. */
const AT_ONCE = 10
const ROUND = 500

interface RescueDeps {
  db: Db
  bus: Bus
  observe: Observe
  maxAttempts: number
  /** Called at failpoints, in tests. */
  fail?: Fail | undefined
}

/** Rescues what there is; gives how many runs it dealt with. One that cannot be rescued does not hold up the others, and is
 *  what this throws after them. */
export async function rescue(deps: RescueDeps): Promise<number> {
  const stuck: string[] = []
  let failure: unknown
  let dealt = 0
  for (let limit = AT_ONCE; dealt < ROUND; ) {
    const found: string[] = []
    try {
      const count = await rescueSome(deps, limit, stuck, found)
      dealt += count
      if (count < limit) break
    } catch (error) {
      if (isOutage(error) || found.length === 0) throw error
      if (limit === 1) {
        stuck.push(...found)
        failure = error
      }
      limit = 1
    }
  }
  if (failure !== undefined) throw failure
  return dealt
}

async function rescueSome(
  deps: RescueDeps,
  limit: number,
  except: readonly string[],
  tried: string[],
): Promise<number> {
  const plan: CancelPlan = { ended: [], wished: [], settled: [] }
  const dealt = await deps.db.tx(async (db) => {
    plan.settled = []
    const found = await queue.abandoned(db, limit, except)
    tried.splice(0, tried.length, ...found.map(({ run_id }) => run_id))
    if (deps.fail && found.length > 0) await deps.fail('in_reaper_between_select_update')
    const again = found.filter((run) => run.cancel_action === null && run.attempt < deps.maxAttempts)
    if (again.length > 0) await queue.requeue(db, again, { uncharge: false })
    for (const run of found) {
      if (again.includes(run)) continue
      const error =
        run.cancel_action === null ? exhausted(run.attempt, 'took its worker with it, or the worker was lost') : null
      const status = error === null ? 'interrupted' : 'error'
      const last = lastBatch(status, error)
      await queue.end(db, run.run_id, { status, error, reason: null, doom: run.temporary, last })
      if (run.cancel_action === 'rollback') await removeTraces(db, run.thread_id, run.run_id)
      plan.settled.push({ run_id: run.run_id, thread_id: run.thread_id, status })
    }
    return found
  })
  if (dealt.length === 0) return 0
  announce(deps.bus, plan)
  deps.bus.publish('runs', { hint: { waiting: true } })
  const ended = plan.settled.map(({ run_id }) => run_id)
  const run_ids = dealt.map(({ run_id }) => run_id).filter((id) => !ended.includes(id))
  deps.observe({ kind: 'runs_rescued', run_ids, exhausted: ended })
  return dealt.length
}
