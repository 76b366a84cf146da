// The scheduler: sleeps until the next cron is due and has it fired. In charge of waking in time; a hint says that a cron was
// changed, a poll finds it where the hint was lost. Decides nothing: the database's clock does.

import * as crons from '../db/crons.ts'
import { CRON_CHANNEL } from '../runs/crons.ts'
import { type FireDeps, fireDue, graphIdsOf } from '../runs/fire.ts'
import { createLoop, type Loop } from './loop.ts'

/** What is due and was not found is in the hands of another process, as a rule for some milliseconds. */
const LOCKED_MS = 100

/** `everyMs` is how often it looks when nothing wakes it. */
export function createScheduler(deps: FireDeps, options: { everyMs: number }): Pick<Loop, 'start' | 'stop'> {
  let timer: NodeJS.Timeout | undefined
  let subscribed: Promise<() => void> | undefined
  const loop = createLoop({
    service: 'schedule',
    everyMs: options.everyMs,
    observe: deps.observe,
    runOnce: async () => {
      await fireDue(deps)
      const dueIn = await crons.dueIn(deps.db, graphIdsOf(deps), deps.clock)
      clearTimeout(timer)
      // What is due later than the next look is seen by that.
      if (dueIn === undefined || dueIn > options.everyMs) return
      timer = setTimeout(() => loop.wake(), dueIn > 0 ? Math.ceil(dueIn) : LOCKED_MS)
      timer.unref()
    },
  })
  const wake = () => loop.wake()
  return {
    start() {
      subscribed = deps.bus.subscribe(CRON_CHANNEL, wake, wake)
      // Without hints, it looks as often as it does anyway.
      subscribed.catch((error: unknown) => deps.observe({ kind: 'background_failed', service: 'schedule', error }))
      loop.start()
    },
    async stop() {
      const unsubscribe = await subscribed?.catch(() => undefined)
      unsubscribe?.()
      await loop.stop()
      clearTimeout(timer)
    },
  }
}
