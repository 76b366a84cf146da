// The worker: slots, the claim loop, and the services beside it. In charge of keeping the slots full with runs that wait
// and of stopping them when this worker may no longer run them.

import type { Bus } from '../bus/bus.ts'
import type { Db } from '../db/db.ts'
import type { Claimed } from '../db/queue.ts'
import * as queue from '../db/queue.ts'
import type { Executor } from '../executor/executor.ts'
import type { AbortReason } from '../executor/protocol.ts'
import type { Fail } from '../failpoints.ts'
import type { Observe } from '../observe.ts'
import { CANCEL_CHANNEL } from '../runs/cancel.ts'
import { type Cap, createCap, type StreamLimits } from '../runs/cap.ts'
import type { LocalWorker } from '../runs/engine.ts'
import { type Execution, execute, type Finished, namesWebhook } from '../runs/execute.ts'
import type { Result } from '../runs/join.ts'
import { threadChannel } from '../runs/tails.ts'
import type { Append, Held, Journal } from './journal.ts'
import { createKeeper } from './keeper.ts'
import { createLoop } from './loop.ts'
import { rescue } from './rescuer.ts'

/** Of how many threads the worker knows how their last run ended. */
const MAX_ENDS = 10_000

export interface WorkerOptions {
  slots: number
  maxAttempts: number
  runTimeoutSeconds: number
  leaseSeconds: number
  abortGraceMs: number
  /** How often the queue is looked at when no hint comes. */
  pollMs: number
  /** How much of what one attempt of a run streams is kept. */
  stream: StreamLimits
}

export interface Worker extends LocalWorker {
  trusted(): boolean
  start(): Promise<void>
  /** Stops claiming, waits for the runs, and after `graceMs`, or when `hurry` aborts, gives what is left back to the queue,
   *  uncharged. The lease is kept until then. */
  stop(graceMs: number, hurry?: AbortSignal): Promise<void>
}

interface Active {
  claimed: Claimed
  execution: Execution
}

export function createWorker(
  deps: {
    db: Db
    /** A connection of its own, so that a busy pool cannot cost the lease. */
    leaseDb: Db
    bus: Bus
    executor: Executor
    journal: (trusted: () => boolean) => Journal
    observe: Observe
    /** Tells those in this process who wait for the run. */
    onSettled: (runId: string, result: Result) => void
    /** Called when a run that ended here owes word of it to a webhook. */
    onOwed?: () => void
    /** Called at failpoints, in tests. */
    fail?: Fail | undefined
  },
  options: WorkerOptions,
): Worker {
  const { db, bus, observe } = deps
  const active = new Map<string, Active>()
  /** Those whose end is being written. The executor is done with them, so the next may begin meanwhile. */
  const ending = new Set<Execution>()
  /** The epoch of the last run that ended here and left all it wrote, by thread. */
  const ends = new Map<string, number>()
  let reserved = 0
  const reservedFor = new Set<string>()
  let strays: ReadonlySet<string> = new Set()
  let stopping = true
  const returning = new Set<Promise<void>>()
  // Whether a slot that comes free should look at the queue: a look for each run would cost as much as claiming it.
  let waiting = true
  const unsubscribe: (() => void)[] = []

  const graphIds = () => deps.executor.graphs().map(({ graph_id }) => graph_id)
  const keeper = createKeeper(
    { db: deps.leaseDb, observe, fail: deps.fail },
    {
      leaseSeconds: options.leaseSeconds,
      graphIds,
      onLost: () => abortAll('lease_lost'),
    },
  )
  const journal = deps.journal(keeper.trusted)
  // Where ends cannot be written, no more runs are piled up than slots once more.
  const free = () => options.slots - (active.size - Math.min(ending.size, options.slots)) - reserved
  const claimer = createLoop({ service: 'claim', everyMs: options.pollMs, observe, runOnce: claimOnce })
  const rescuer = createLoop({
    service: 'rescue',
    everyMs: Math.min(2_500, options.leaseSeconds * 250),
    observe,
    runOnce: async () => {
      await disownStrays()
      await rescue({ db, bus, observe, maxAttempts: options.maxAttempts, fail: deps.fail })
    },
  })

  // A wish to cancel that nobody heard, because its message was lost, is found in the database.
  const canceller = createLoop({
    service: 'cancel',
    everyMs: options.pollMs,
    observe,
    runOnce: async () => {
      if (active.size === 0) return
      for (const { run_id, cancel_action } of await queue.wishes(db, keeper.workerId())) stopRun(run_id, cancel_action)
    },
  })

  async function claimOnce(): Promise<void> {
    for (;;) {
      // What is heard while the queue is looked at may have come after the look.
      waiting = true
      // Runs that end together leave their slots in one turn: one claim fills them.
      await new Promise<void>((resolve) => process.nextTick(resolve))
      const wanted = free()
      if (stopping || !keeper.trusted() || wanted <= 0) return
      reserved += wanted
      try {
        const workerId = keeper.workerId()
        const claimed = await queue.claim(db, workerId, wanted, graphIds())
        if (deps.fail && claimed.length > 0) await deps.fail('after_claim')
        for (const run of claimed) {
          if (workerId === keeper.workerId()) start(run)
        }
        if (claimed.length < wanted) {
          waiting = await queue.anyWaiting(db, graphIds())
          return
        }
      } finally {
        reserved -= wanted
      }
    }
  }

  /** Where the answer to a claim or to a creation was lost, a run is ours and nobody runs it: others may have it. Seen
   *  twice, because one that is just ending or just beginning looks the same for a moment. */
  async function disownStrays(): Promise<void> {
    const workerId = keeper.workerId()
    const held = (await queue.heldBy(db, workerId)).map(({ run_id }) => run_id)
    const found = held.filter((id) => !active.has(id) && !reservedFor.has(id))
    const seenTwice = found.filter((id) => strays.has(id))
    strays = new Set(found)
    if (seenTwice.length > 0) await queue.disown(db, workerId, seenTwice)
  }

  function start(claimed: Claimed): void {
    const began = performance.now()
    const held: Held = {
      run_id: claimed.run_id,
      thread_id: claimed.thread_id,
      epoch: claimed.epoch,
      seq: claimed.last_seq,
    }
    const ids = { run_id: claimed.run_id, thread_id: claimed.thread_id, attempt: claimed.attempt }
    const cap = createCap(options.stream, (limit, max) => observe({ kind: 'run_events_capped', ...ids, limit, max }))
    const execution = execute(
      {
        db,
        executor: deps.executor,
        journal: { append: (what) => append(held, cap, what) },
        fail: deps.fail,
        maxAttempts: options.maxAttempts,
        runTimeoutSeconds: options.runTimeoutSeconds,
        abortGraceMs: options.abortGraceMs,
        continues: ends.get(claimed.thread_id) === claimed.epoch - 1,
        onOutcome: () => {
          if (active.get(claimed.run_id)?.execution !== execution) return
          ending.add(execution)
          lookAgain()
        },
      },
      claimed,
    )
    // One that was lost here and rescued can come back while what it was before still winds down.
    const before = active.get(claimed.run_id)
    if (before !== undefined) ending.delete(before.execution)
    active.set(claimed.run_id, { claimed, execution })
    const { run_id, thread_id, attempt } = claimed
    observe({ kind: 'run_claimed', run_id, thread_id, attempt, waited_ms: claimed.waited_ms })
    void execution.finished.then((finished) => {
      ending.delete(execution)
      if (active.get(run_id)?.execution === execution) active.delete(run_id)
      if (finished.as === 'settled' && finished.status === 'success') remember(claimed)
      announce(claimed, finished, performance.now() - began)
      lookAgain()
    })
  }

  function lookAgain(): void {
    if (!stopping && waiting) claimer.wake()
  }

  function remember({ thread_id, epoch, temporary }: Claimed): void {
    if (temporary) return
    ends.delete(thread_id)
    ends.set(thread_id, epoch)
    const [oldest] = ends.keys()
    if (ends.size > MAX_ENDS && oldest !== undefined) ends.delete(oldest)
  }

  /** A run that was created for this worker while it began to stop. */
  function giveBack(claimed: Claimed): void {
    const given = queue.requeue(db, [claimed], { uncharge: true }).then(
      () => bus.publish('runs', { hint: { waiting: true } }),
      // Then it is rescued.
      () => {},
    )
    returning.add(given)
    void given.then(() => returning.delete(given))
  }

  async function append(held: Held, cap: Cap, what: Append): Promise<void> {
    if (what.events === undefined) return journal.append(held, what)
    const events = cap.admit(what.events)
    if (events.length > 0 || what.put !== undefined || what.settle !== undefined)
      return journal.append(held, { ...what, events })
    // Nothing to write; the other runs get their turn before the executor sends more.
    await new Promise(setImmediate)
  }

  function announce({ run_id, thread_id, attempt, kwargs }: Claimed, finished: Finished, ms: number): void {
    const run = { run_id, thread_id, attempt }
    switch (finished.as) {
      case 'settled': {
        const { status: outcome, error } = finished
        deps.onSettled(run_id, finished.result)
        if (namesWebhook({ kwargs })) deps.onOwed?.()
        observe({ kind: 'run_settled', ...run, outcome, ms, ...(error !== undefined && { error }) })
        break
      }
      case 'removed':
        bus.publish(threadChannel(thread_id), { hint: { ended: run_id, status: 'removed' } })
        observe({ kind: 'run_settled', ...run, outcome: 'rolled_back', ms })
        break
      case 'released':
        bus.publish('runs', { hint: { waiting: true } })
        observe({ kind: 'run_settled', ...run, outcome: 'released', ms })
        break
      case 'lost':
        observe({ kind: 'run_lease_lost', ...run })
        break
    }
  }

  function abortAll(reason: AbortReason): void {
    for (const { execution } of active.values()) execution.abort(reason)
  }

  function hearWaiting(inMs: unknown): void {
    waiting = true
    claimer.wake(typeof inMs === 'number' ? inMs : 0)
  }

  const stopRun = (runId: unknown, action: unknown) =>
    active.get(String(runId))?.execution.abort(action === 'rollback' ? 'rollback' : 'cancel')

  return {
    trusted: keeper.trusted,
    reserve(runId) {
      if (stopping || !keeper.trusted() || free() <= 0) return undefined
      const workerId = keeper.workerId()
      reserved++
      reservedFor.add(runId)
      const giveUp = () => {
        if (reservedFor.delete(runId)) reserved--
      }
      return {
        worker_id: workerId,
        release() {
          giveUp()
          // Others may have come while it was kept.
          lookAgain()
        },
        start(claimed) {
          giveUp()
          // Under a name that was given up since, it is about to be rescued.
          if (workerId !== keeper.workerId()) return
          if (stopping) giveBack(claimed)
          else start(claimed)
        },
      }
    },
    runs: ({ run_id, thread_id }) => active.get(run_id)?.claimed.thread_id === thread_id,
    flushed: journal.flushed,
    async start() {
      await keeper.start()
      stopping = false
      unsubscribe.push(
        await bus.subscribe(
          'runs',
          ({ hint }) => hearWaiting(hint.in_ms),
          () => hearWaiting(0),
        ),
        await bus.subscribe(
          CANCEL_CHANNEL,
          ({ hint }) => void stopRun(hint.run_id, hint.action),
          () => canceller.wake(),
        ),
      )
      claimer.start()
      rescuer.start()
      canceller.start()
    },
    async stop(graceMs, hurry) {
      stopping = true
      await Promise.all([claimer.stop(), rescuer.stop()])
      // What still runs can still be cancelled.
      await settledWithin([...active.values()], graceMs, hurry)
      abortAll('shutdown')
      await Promise.all([...active.values()].map(({ execution }) => execution.finished))
      await Promise.all(returning)
      for (const stop of unsubscribe.splice(0)) stop()
      await canceller.stop()
      await journal.idle()
      await keeper.stop()
    },
  }
}

async function settledWithin(runs: readonly Active[], graceMs: number, hurry?: AbortSignal): Promise<void> {
  if (runs.length === 0 || hurry?.aborted) return
  let stop: () => void = () => {}
  const late = new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, graceMs)
    hurry?.addEventListener('abort', () => resolve())
    stop = () => clearTimeout(timer)
  })
  await Promise.race([Promise.all(runs.map(({ execution }) => execution.finished)), late])
  stop()
}
