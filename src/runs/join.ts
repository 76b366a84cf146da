// Waiting for runs and following their events. In charge of giving a client the log after its last event id and then
// what happens live, once each and in order, up to `end`; never changes a run.

import type { Db } from '../db/db.ts'
import * as events from '../db/events.ts'
import * as runs from '../db/runs.ts'
import type { Sql } from '../db/sql.ts'
import { ApiError } from '../errors.ts'
import { hasEnded } from './lifecycle.ts'
import { CHECKPOINT, decodeBatch, END, type LoggedEvent } from './log.ts'
import type { Ended, Tail } from './tails.ts'

/** One event as it goes to a client. */
export interface SentEvent {
  id: string
  event: string
  data: string
}

/** Which events of a run are wanted; absent means all. */
export interface Wanted {
  modes?: readonly string[]
  /** Subgraph namespaces, `''` for the root; a namespace stands for those below it. */
  namespaces?: readonly string[]
  /** Only what came after this checkpoint of the root graph. */
  checkpoint_id?: string
}

/** The text that `wait` and `join` answer with. */
export type Result =
  | { status: 'error'; error: { error: string; message: string } }
  | { status: 'ended'; values: string; interrupts: Record<string, unknown[]> }

/** A result as JSON text: values, with `__interrupt__` where the run stopped at one, or `{"__error__": …}`. */
export function resultText(result: Result): string {
  if (result.status === 'error') return JSON.stringify({ __error__: result.error })
  const open = Object.values(result.interrupts).flat()
  const hasRoom = result.values.startsWith('{') || result.values === 'null'
  if (open.length === 0 || !hasRoom) return result.values
  const own = `"__interrupt__":${JSON.stringify(open)}`
  return result.values === '{}' || result.values === 'null' ? `{${own}}` : `${result.values.slice(0, -1)},${own}}`
}

export const resultOf = (row: runs.RunResult): Result =>
  row.error !== null
    ? { status: 'error', error: row.error }
    : { status: 'ended', values: JSON.stringify(row.values ?? null), interrupts: row.interrupts }

/** Waits until a run has ended and gives its result. Throws `run_not_found` when it is removed meanwhile. */
export async function waitForResult(
  deps: { db: Db },
  tail: Tail,
  run: { run_id: string; thread_id: string },
  visible: Sql,
  signal: AbortSignal,
): Promise<Result | undefined> {
  const stop = new AbortController()
  const done = tail.ended(run.run_id, AbortSignal.any([signal, stop.signal]))
  done.catch(() => {})
  try {
    // Asked after listening began, so an end in between is seen by one of both.
    const now = await runs.result(deps.db, run.thread_id, run.run_id, visible)
    if (now !== undefined && hasEnded(now.status)) return resultOf(now)
    if (now !== undefined && (await done) === undefined) return undefined
    const after = now && (await runs.result(deps.db, run.thread_id, run.run_id, visible))
    if (after === undefined) throw new ApiError('run_not_found', 'The run was rolled back or deleted before it ended.')
    return resultOf(after)
  } finally {
    stop.abort()
  }
}

/** Where a join begins: the seq to read after. */
export async function startOf(
  db: Db,
  run: { run_id: string; thread_id: string },
  lastEventId: string | null,
): Promise<number> {
  if (lastEventId === null || lastEventId === '') return events.position(db, run.thread_id)
  if (lastEventId === '-1' || lastEventId === '-') return events.beginning(db, run)
  if (!/^\d{1,15}$/.test(lastEventId)) {
    throw new ApiError('validation_failed', 'Last-Event-ID must be the id of an event of this thread, or -1 for all.')
  }
  return Number(lastEventId)
}

/** A run's events after `after`, up to and with `end`. Owns the tail and closes it. */
export async function* followRun(
  deps: { db: Db },
  tail: Tail,
  run: { run_id: string; thread_id: string },
  options: { after: number; caughtUp: boolean; wanted: Wanted; signal: AbortSignal },
): AsyncGenerator<SentEvent, void, undefined> {
  const wants = filter(options.wanted)
  const stop = new AbortController()
  let last = options.after
  try {
    // A run that never began, or whose thread is deleted, has no last event: only this tells of its end for certain.
    tail.ended(run.run_id, AbortSignal.any([options.signal, stop.signal])).catch(() => {})
    // Asked after listening began: a run that ended before says nothing more, and is read from the log alone.
    const over = !options.caughtUp && (await runs.ended(deps.db, [run.run_id])).length > 0
    const items = over ? readLog(deps.db, run.thread_id, options.after) : tail.follow(options.after, options)
    let ended = over
    for await (const item of items) {
      if ('ended' in item) {
        ended ||= item.ended === run.run_id
        if (ended) break
        continue
      }
      if (item.run_id !== run.run_id) continue
      last = item.seq
      if (item.event === END) {
        ended = true
        break
      }
      if (wants(item)) yield { id: String(item.seq), event: item.event, data: item.data }
    }
    if (options.signal.aborted) return
    // Who is told of an end does not come back.
    if (!ended) throw new ApiError('shutting_down')
    yield { id: String(last), event: 'end', data: 'null' }
  } finally {
    stop.abort()
    tail.close()
  }
}

async function* readLog(db: Db, threadId: string, after: number): AsyncGenerator<LoggedEvent | Ended, void, undefined> {
  for (let seq = after; ; ) {
    const page = await events.after(db, threadId, seq, 100)
    for (const batch of page) yield* decodeBatch(batch, seq)
    const last = page.at(-1)
    if (last === undefined) return
    seq = last.last_seq
  }
}

const ALWAYS = new Set(['metadata', 'error', 'feedback'])
const MODE_OF: Readonly<Record<string, string>> = {
  messages: 'messages-tuple',
  'messages/metadata': 'messages',
  'messages/partial': 'messages',
  'messages/complete': 'messages',
}

function filter({ modes, namespaces, checkpoint_id }: Wanted): (event: LoggedEvent) => boolean {
  let reached = checkpoint_id === undefined
  return ({ event, data }) => {
    if (event === CHECKPOINT) {
      if (data === JSON.stringify(checkpoint_id)) reached = true
      return false
    }
    if (event.startsWith('__')) return false
    const [name, ...namespace] = event.split('|') as [string, ...string[]]
    if (ALWAYS.has(name)) return true
    if (!reached) return false
    if (modes !== undefined && !modes.includes(MODE_OF[name] ?? name)) return false
    return namespaces === undefined || namespaces.some((wanted) => within(namespace, wanted))
  }
}

/** True at and below a wanted namespace; a wanted segment without a task id means any task of that node. */
function within(namespace: readonly string[], wanted: string): boolean {
  if (wanted === '') return namespace.length === 0
  const segments = wanted.split('|')
  return segments.every((segment, i) => {
    const own = namespace[i]
    return own !== undefined && (own === segment || (!segment.includes(':') && own.split(':')[0] === segment))
  })
}

/** Which events of a thread are wanted. */
export type ThreadMode = 'run_modes' | 'lifecycle' | 'state_update'

/** A thread's events over all its runs; ends only when the signal aborts. Owns the tail and closes it. */
export async function* followThread(
  tail: Tail,
  options: { after: number; modes: readonly ThreadMode[]; signal: AbortSignal },
): AsyncGenerator<SentEvent, void, undefined> {
  const has = (mode: ThreadMode) => options.modes.includes(mode)
  try {
    for await (const item of tail.follow(options.after, { caughtUp: false, signal: options.signal })) {
      if ('ended' in item) continue
      const id = String(item.seq)
      if (item.event === END) {
        const end = JSON.parse(item.data) as { status: string }
        const data = JSON.stringify({ run_id: item.run_id, status: end.status })
        if (has('state_update')) yield { id, event: 'state_update', data }
        if (has('run_modes') || has('lifecycle')) yield { id, event: 'run_done', data }
      } else if (item.event === 'metadata' || item.event === 'error') {
        if (has('run_modes') || has('lifecycle')) yield { id, event: item.event, data: item.data }
      } else if (!item.event.startsWith('__') && has('run_modes')) {
        yield { id, event: item.event, data: item.data }
      }
    }
  } finally {
    tail.close()
  }
}
