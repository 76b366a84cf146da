// This worker's lease. In charge of renewing it by the database's clock, and of knowing on the monotonic clock when it
// can no longer be trusted; a lease that may have run out is never renewed, the worker takes a new name instead.

import type { Db } from '../db/db.ts'
import { createHealth, isUnreachable } from '../db/health.ts'
import * as queue from '../db/queue.ts'
import type { Fail } from '../failpoints.ts'
import { newId } from '../ids.ts'
import type { Observe } from '../observe.ts'

export interface Keeper {
  /** The name that runs are claimed under. */
  workerId(): string
  /** True while no other worker can have taken our runs. */
  trusted(): boolean
  /** Takes the lease; afterwards it is kept until `stop`. */
  start(): Promise<void>
  /** Stops renewing and gives the lease back. */
  stop(): Promise<void>
}

/** How much earlier than the database we stop trusting the lease. */
const MARGIN_MS = 1_000

export function createKeeper(
  deps: { db: Db; observe: Observe; fail?: Fail | undefined },
  options: { leaseSeconds: number; graphIds: () => readonly string[]; onLost: () => void },
): Keeper {
  const leaseMs = options.leaseSeconds * 1_000
  let workerId = newId()
  let trustedUntil = 0
  let stopped = true
  let timer: NodeJS.Timeout | undefined
  let fence: NodeJS.Timeout | undefined
  let renewing: Promise<void> = Promise.resolve()

  const health = createHealth('lease', deps.observe)

  const trusted = () => performance.now() < trustedUntil

  async function renew(): Promise<void> {
    const began = performance.now()
    if (trustedUntil > 0 && began >= trustedUntil) lose()
    const name = workerId
    await deps.fail?.('before_lease_renewal')
    await queue.renew(deps.db, name, options.leaseSeconds, options.graphIds())
    health.worked()
    // Counted from before the request, since the database's answer may have come late.
    if (name !== workerId) return
    trustedUntil = began + leaseMs - Math.min(MARGIN_MS, leaseMs / 4)
    watch()
  }

  function watch(): void {
    clearTimeout(fence)
    fence = setTimeout(check, Math.ceil(trustedUntil - performance.now()))
    fence.unref()
  }

  function check(): void {
    if (stopped) return
    // Timers may fire a moment early.
    if (trusted()) watch()
    else lose()
  }

  function lose(): void {
    if (trustedUntil === 0) return
    trustedUntil = 0
    workerId = newId()
    options.onLost()
  }

  function schedule(ms: number): void {
    if (stopped) return
    timer = setTimeout(() => {
      renewing = renew().then(
        () => schedule(leaseMs / 3),
        (error: unknown) => {
          if (isUnreachable(error)) health.failed(error)
          else deps.observe({ kind: 'background_failed', service: 'lease', error })
          schedule(Math.min(500, leaseMs / 6))
        },
      )
    }, ms)
    timer.unref()
  }

  return {
    workerId: () => workerId,
    trusted,
    async start() {
      stopped = false
      await renew()
      schedule(leaseMs / 3)
    },
    async stop() {
      stopped = true
      clearTimeout(timer)
      clearTimeout(fence)
      await renewing
      await queue.leave(deps.db, workerId).catch(health.failed)
    },
  }
}
