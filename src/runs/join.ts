// Waiting for runs and following their events. In charge of giving a client the log after its last event id and then
// what happens live, once each and in order, up to `end`; never changes a run.

import type { Db } from '../db/db.ts'
import type * as events from '../db/events.ts'
import * as runs from '../db/runs.ts'
import type { Sql } from '../db/sql.ts'
import { ApiError } from '../errors.ts'
import type { Text } from '../executor/protocol.ts'
import { textOf } from '../pieces.ts'
import { TRUNCATED } from './cap.ts'
import { hasEnded } from './lifecycle.ts'
import { CHECKPOINT, END, type LoggedEvent } from './log.ts'
import type { Tail } from './tails.ts'

/** One event as it goes to a client. */
export interface SentEvent {
  /** Strictly rising; absent where an event has no place of its own in the log. */
  id?: string
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
  | { status: 'ended'; values: Text; interrupts: Record<string, unknown[]> }

/** A result as JSON text: values, with `__interrupt__` where the run stopped at one, or `{"__error__": …}`. */
export function resultText(result: Result): Text {
  if (result.status === 'error') return JSON.stringify({ __error__: result.error })
  const open = Object.values(result.interrupts).flat()
  if (open.length === 0) return result.values
  const values = textOf(result.values)
  if (!values.startsWith('{') && values !== 'null') return values
  const own = `"__interrupt__":${JSON.stringify(open)}`
  return values === '{}' || values === 'null' ? `{${own}}` : `${values.slice(0, -1)},${own}}`
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
  const done = tail.ended(run.run_id, { ask: false, signal: AbortSignal.any([signal, stop.signal]) })
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

/** Where a client asks to begin. Throws `validation_failed`. */
export function fromOf(lastEventId: string | null): events.From {
  if (lastEventId === null || lastEventId === '') return 'now'
  if (lastEventId === '-1' || lastEventId === '-') return 'beginning'
  if (!/^\d{1,15}$/.test(lastEventId)) {
    throw new ApiError('validation_failed', 'Last-Event-ID must be the id of an event of this thread, or -1 for all.')
  }
  return Number(lastEventId)
}

/** What a client is told first that asks for what is kept no longer. */
export const GAP: Omit<SentEvent, 'id'> = {
  event: 'gap',
  data: JSON.stringify({
    message:
      'Events that followed this place are kept no longer: what comes next is not all that was. Read the state of the thread for what they led to.',
  }),
}

/** Where a reader of a run or thread goes on. */
export interface Following extends events.Start {
  /** Nothing after `after` was in the log when the tail was opened. */
  caughtUp: boolean
  signal: AbortSignal
}

/** A run's events after `after`, up to and with `end`. Owns the tail and closes it. */
export async function* followRun(
  tail: Tail,
  run: { run_id: string; thread_id: string },
  options: Following & { wanted: Wanted; counted: { enter(): void; leave(): void } },
): AsyncGenerator<SentEvent, void, undefined> {
  options.counted.enter()
  const wants = filter(options.wanted)
  const stop = new AbortController()
  let end: SentEvent | undefined
  try {
    // A run that never began, or whose thread is deleted, has no last event: only this tells of its end for certain.
    const signal = AbortSignal.any([options.signal, stop.signal])
    tail.ended(run.run_id, { ask: !options.caughtUp, signal }).catch(() => {})
    if (options.gap) yield GAP
    for await (const item of tail.follow(options.after, options)) {
      if ('gone' in item) continue
      if ('ended' in item) {
        if (item.ended !== run.run_id) continue
        end = { event: 'end', data: 'null' }
        break
      }
      if (item.run_id !== run.run_id) continue
      if (item.event === END) {
        end = { id: String(item.seq), event: 'end', data: 'null' }
        break
      }
      if (wants(item)) yield { id: String(item.seq), event: item.event, data: item.data }
    }
    if (options.signal.aborted) return
    // Who is told of an end does not come back.
    if (end === undefined) throw new ApiError('shutting_down')
    yield end
  } finally {
    options.counted.leave()
    stop.abort()
    tail.close()
  }
}

const ALWAYS = new Set(['metadata', 'error', 'feedback', TRUNCATED])
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

/** A thread's events over all its runs; ends when the thread is deleted, or the signal aborts, and breaks off when the server
 *  hangs up. Owns the tail and closes it. */
export async function* followThread(
  tail: Tail,
  options: Following & { modes: readonly ThreadMode[]; hungUp: AbortSignal },
): AsyncGenerator<SentEvent, void, undefined> {
  const has = (mode: ThreadMode) => options.modes.includes(mode)
  const tells = has('run_modes') || has('lifecycle')
  const stop = new AbortController()
  const hangUp = () => stop.abort()
  options.hungUp.addEventListener('abort', hangUp)
  const signal = AbortSignal.any([options.signal, stop.signal])
  try {
    if (options.hungUp.aborted) hangUp()
    if (options.gap) yield GAP
    for await (const item of tail.follow(options.after, { caughtUp: options.caughtUp, untilGone: true, signal })) {
      if ('gone' in item) return
      if ('ended' in item) continue
      const id = String(item.seq)
      if (item.event === END) {
        const end = JSON.parse(item.data) as { status: string }
        const data = JSON.stringify({ run_id: item.run_id, status: end.status })
        // Two events for one of the log: only the last has its id, so that whoever saw just the first gets both again.
        if (has('state_update')) yield { ...(!tells && { id }), event: 'state_update', data }
        if (tells) yield { id, event: 'run_done', data }
      } else if (item.event === 'metadata' || item.event === 'error') {
        if (tells) yield { id, event: item.event, data: item.data }
      } else if (!item.event.startsWith('__') && has('run_modes')) {
        yield { id, event: item.event, data: item.data }
      }
    }
    // The server ends it, and not the thread: the client is to come back.
    if (!options.signal.aborted) throw new ApiError('shutting_down')
  } finally {
    options.hungUp.removeEventListener('abort', hangUp)
    tail.close()
  }
}
