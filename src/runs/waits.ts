// Waits for results of runs. In charge of hearing them from this process's worker where it runs them, of asking the database
// where it does not, and of counting who waits or follows, because a server that shuts down lets them come to the end.

import type { Db } from '../db/db.ts'
import type { Sql } from '../db/sql.ts'
import { ApiError } from '../errors.ts'
import type { Text } from '../executor/protocol.ts'
import { type Result, resultText, waitForResult } from './join.ts'
import type { Tails } from './tails.ts'

/** A run that runs here is told of by its worker; only one that takes so long that it may have moved is asked after. */
const ASK_AFTER_MS = 1_000

/** Given as the reason of an abort, because making the usual one, with its stack, costs more than all else here. */
const LEFT = Symbol('left')

type RunRef = { run_id: string; thread_id: string }

/** Who waits for a run, from before the run may end. */
export interface Waiting {
  /** The result; undefined when the signal aborted first. Rejects with `shutting_down` when the server closes. */
  result(run: RunRef, how: { isHere: boolean; visible: Sql; signal: AbortSignal }): Promise<Text | undefined>
  leave(): void
}

export interface Waits {
  enter(runId: string): Waiting
  /** This process's worker has ended the run. */
  settled(runId: string, result: Result): void
  /** Counts somebody who follows a run in another way. */
  counted: { enter(): void; leave(): void }
  /** Resolves when nobody is left, or after `ms`, or when `hurry` aborts. */
  over(ms: number, hurry: AbortSignal): Promise<void>
  /** Breaks off what is left. */
  close(): void
}

export function createWaits(deps: { db: Db; tails: Tails }): Waits {
  const locals = new Map<string, Set<(result: Result) => void>>()
  const breakOffs = new Set<() => void>()
  let closed = false
  let readers = 0
  let whenNone: () => void = () => {}
  const counted = {
    enter: () => void readers++,
    leave: () => {
      readers--
      if (readers === 0) whenNone()
    },
  }

  /** The result as the log and the rows have it. */
  async function remote(run: RunRef, visible: Sql, signal: AbortSignal): Promise<Text | undefined> {
    const tail = await deps.tails.open(run.thread_id)
    try {
      const result = await waitForResult(deps, tail, run, visible, signal)
      return result && resultText(result)
    } finally {
      tail.close()
    }
  }

  async function resultOf(
    local: Promise<Result>,
    run: RunRef,
    { isHere, visible, signal }: Parameters<Waiting['result']>[1],
  ): Promise<Text | undefined> {
    let asking: NodeJS.Timeout | undefined
    let stopAsking: () => void = () => {}
    let breakOff: () => void = () => {}
    let leave: () => void = () => {}
    counted.enter()
    try {
      return await new Promise<Text | undefined>((resolve, reject) => {
        const ask = () => {
          const left = new AbortController()
          stopAsking = () => left.abort(LEFT)
          void remote(run, visible, left.signal).then(resolve, reject)
        }
        breakOff = () => reject(new ApiError('shutting_down'))
        leave = () => resolve(undefined)
        if (closed) return breakOff()
        breakOffs.add(breakOff)
        if (signal.aborted) return leave()
        signal.addEventListener('abort', leave)
        local.then(resultText).then(resolve, reject)
        if (isHere) asking = setTimeout(ask, ASK_AFTER_MS)
        else ask()
      })
    } finally {
      counted.leave()
      clearTimeout(asking)
      breakOffs.delete(breakOff)
      signal.removeEventListener('abort', leave)
      stopAsking()
    }
  }

  return {
    enter(runId) {
      const told = locals.get(runId) ?? new Set()
      locals.set(runId, told)
      let tell: (result: Result) => void = () => {}
      const local = new Promise<Result>((resolve) => {
        tell = resolve
      })
      told.add(tell)
      return {
        result: (run, how) => resultOf(local, run, how),
        leave() {
          told.delete(tell)
          if (told.size === 0 && locals.get(runId) === told) locals.delete(runId)
        },
      }
    },
    settled(runId, result) {
      for (const tell of locals.get(runId) ?? []) tell(result)
    },
    counted,
    async over(ms, hurry) {
      if (readers === 0 || hurry.aborted) return
      await new Promise<void>((resolve) => {
        whenNone = resolve
        setTimeout(resolve, ms).unref()
        hurry.addEventListener('abort', () => resolve())
      })
    },
    close() {
      closed = true
      for (const breakOff of breakOffs) breakOff()
    },
  }
}
