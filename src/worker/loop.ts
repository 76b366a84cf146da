// The skeleton of a service that does something now and then: at intervals, and whenever it is woken. In charge of never
// running twice at once and of surviving a failure; what it does is the caller's.

import { isUnreachable } from '../db/health.ts'
import type { Observe } from '../observe.ts'

export interface Loop {
  start(): void
  /** Runs soon, or once more if it is running now; `afterMs` asks for later. */
  wake(afterMs?: number): void
  /** Resolves when nothing of it runs any more. */
  stop(): Promise<void>
}

export function createLoop(of: {
  service: string
  everyMs: number
  observe: Observe
  runOnce: () => Promise<void>
}): Loop {
  let timer: NodeJS.Timeout | undefined
  const later = new Set<NodeJS.Timeout>()
  let running: Promise<void> | undefined
  let again = false
  let stopped = true

  async function run(): Promise<void> {
    try {
      do {
        again = false
        await of.runOnce()
      } while (again && !stopped)
    } catch (error) {
      // That the database is away is observed once, not by everybody who needs it.
      if (!isUnreachable(error)) of.observe({ kind: 'background_failed', service: of.service, error })
    }
    running = undefined
    if (!stopped) {
      timer = setTimeout(wake, of.everyMs)
      timer.unref()
    }
  }

  function wake(): void {
    if (stopped) return
    clearTimeout(timer)
    if (running === undefined) running = run()
    else again = true
  }

  return {
    start() {
      stopped = false
      wake()
    },
    wake(afterMs = 0) {
      if (afterMs <= 0) return wake()
      const timeout = setTimeout(() => {
        later.delete(timeout)
        wake()
      }, afterMs)
      timeout.unref()
      later.add(timeout)
    },
    async stop() {
      stopped = true
      clearTimeout(timer)
      for (const timeout of later) clearTimeout(timeout)
      later.clear()
      while (running !== undefined) await running
    },
  }
}
