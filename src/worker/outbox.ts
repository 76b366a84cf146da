// The outbox: delivers what ended runs owe to webhooks. In charge of claiming deliveries that are due, of a place for every host
// however many of them are dead, and of recording what came of each try. What is claimed and not recorded, because this
// process died or the database is away, is due again when the lease ends: a receiver may hear twice, never not at all.

import type { WebhookConfig } from '../config.ts'
import type { Db } from '../db/db.ts'
import { isUnreachable } from '../db/health.ts'
import * as webhooks from '../db/webhooks.ts'
import type { Fail } from '../failpoints.ts'
import { newId } from '../ids.ts'
import type { Observe } from '../observe.ts'
import { refusalOf } from '../runs/webhooks.ts'
import { createLoop, type Loop } from './loop.ts'
import type { Post } from './webhook-post.ts'
import { createSign } from './webhook-signature.ts'
import { type Answer, judge, type NoAnswer } from './webhook-verdict.ts'

export interface Outbox {
  start(): void
  /** Something may be due. */
  wake(): void
  /** Claims no more, lets what is under way end for at most `graceMs`, or until `hurry` aborts, and gives the rest back. */
  stop(graceMs: number, hurry?: AbortSignal): Promise<void>
}

/** Tries at once in this process, in all and for one host; one at a time for a host that last failed, and took its time to. */
const AT_ONCE = 128
const PER_HOST = 16
const SLOW_MS = 1_000
/** Of bodies at once. */
const MAX_BYTES = 32 * 1024 * 1024
/** Twice what a try may take. */
const LEASE_SECONDS = 30
/** How many such hosts are remembered: the others may have a burst each time. */
const MAX_FAILING = 10_000

interface Active {
  delivery: webhooks.ClaimedDelivery
  stop: AbortController
  done: Promise<void>
}

export function createOutbox(
  deps: {
    db: Db
    post: Post
    observe: Observe
    /** Called at failpoints, in tests. */
    fail?: Fail | undefined
    random?: () => number
  },
  options: { webhooks: WebhookConfig; version: string; pollMs: number },
): Outbox {
  const { db, observe } = deps
  const sign = createSign(options.webhooks.secrets)
  const active = new Set<Active>()
  const failing = new Set<string>()
  let stopping = false
  const loop: Loop = createLoop({ service: 'webhooks', everyMs: options.pollMs, observe, runOnce: claimOnce })

  async function claimOnce(): Promise<void> {
    while (!stopping) {
      const room = roomLeft()
      if (room.deliveries <= 0 || room.bytes <= 0) return
      const name = newId()
      const claimed = await webhooks.claim(db, name, LEASE_SECONDS, room)
      for (const delivery of claimed) begin(delivery, name)
      if (claimed.length === 0) return
    }
  }

  function roomLeft(): webhooks.Room {
    const hosts = new Map([...failing].map((host) => [host, 1]))
    let bytes = MAX_BYTES
    for (const { delivery } of active) {
      hosts.set(delivery.host, (hosts.get(delivery.host) ?? PER_HOST) - 1)
      bytes -= delivery.size
    }
    for (const [host, room] of hosts) if (room < 0) hosts.set(host, 0)
    // Another process may have the app.
    if (options.webhooks.toApp === 'none') hosts.set(webhooks.APP_HOST, 0)
    return { deliveries: AT_ONCE - active.size, bytes, perHost: PER_HOST, hosts }
  }

  function begin(delivery: webhooks.ClaimedDelivery, claim: string): void {
    const stop = new AbortController()
    const one: Active = { delivery, stop, done: deliver(delivery, claim, stop.signal).catch(report) }
    active.add(one)
    void one.done.then(() => {
      active.delete(one)
      if (!stopping) loop.wake()
    })
  }

  async function deliver(delivery: webhooks.ClaimedDelivery, claim: string, signal: AbortSignal): Promise<void> {
    const { delivery_id, run_id, host, attempts: attempt } = delivery
    const began = performance.now()
    const outcome = await send(delivery, signal)
    const ms = performance.now() - began
    if (signal.aborted && 'reason' in outcome) return void (await webhooks.release(db, { delivery_id, claim }))
    if (deps.fail) await deps.fail('after_webhook_post_before_mark')
    const verdict = judge(outcome, attempt, (deps.random ?? Math.random)(), Date.now())
    if (verdict.status === 'delivered') failing.delete(host)
    else if (ms > SLOW_MS && failing.size < MAX_FAILING) failing.add(host)
    await webhooks.tried(db, { delivery_id, claim }, verdict)
    const about = { delivery_id, run_id, attempt, ms }
    if (verdict.last_error === null) {
      observe({ kind: 'webhook_delivered', ...about, status: verdict.last_status ?? 0 })
    } else {
      const again = verdict.status === 'pending' && { again_in_s: Math.round(verdict.in_seconds) }
      observe({ kind: 'webhook_failed', ...about, reason: verdict.last_error, ...again })
    }
  }

  async function send(
    { delivery_id, url, body }: webhooks.ClaimedDelivery,
    signal: AbortSignal,
  ): Promise<Answer | NoAnswer> {
    // What may be called can have been changed since the run was created.
    const refusal = refusalOf(url, options.webhooks)
    if (refusal !== undefined) return { reason: `The URL ${refusal}.`, final: true }
    const now = Date.now()
    const sent = `${body.slice(0, -1)},"webhook_sent_at":${JSON.stringify(new Date(now).toISOString())}}`
    const headers = {
      ...options.webhooks.headers,
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(sent)),
      'user-agent': `heddle/${options.version}`,
      ...sign(delivery_id, Math.floor(now / 1_000), sent),
    }
    return deps.post({ url, headers, body: sent, signal })
  }

  /** A try that could not be recorded is made again when its lease has ended. */
  function report(error: unknown): void {
    if (!isUnreachable(error)) observe({ kind: 'background_failed', service: 'webhooks', error })
  }

  return {
    start: () => loop.start(),
    wake: () => loop.wake(),
    async stop(graceMs, hurry) {
      stopping = true
      await loop.stop()
      const late = () => {
        for (const { stop } of active) stop.abort()
      }
      const timer = setTimeout(late, graceMs)
      hurry?.addEventListener('abort', late)
      if (hurry?.aborted) late()
      await Promise.all([...active].map(({ done }) => done))
      clearTimeout(timer)
      hurry?.removeEventListener('abort', late)
    },
  }
}
