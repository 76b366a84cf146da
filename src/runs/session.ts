// A connection of the thread protocol, whatever carries it. In charge of giving each subscription the log after where it asks to
// begin and then what happens, once each and in order, and of never letting what happens overtake what happened before.

import type { Db } from '../db/db.ts'
import * as events from '../db/events.ts'
import type { Sql } from '../db/sql.ts'
import { ApiError } from '../errors.ts'
import { decodeBatch, type LoggedEvent } from './log.ts'
import { frameOf, idOf, logSeqOf, type ThreadEvent } from './protocol.ts'
import { type Hears, hearsOf, type Subscription } from './subscription.ts'
import type { Listener, Tail, Tails } from './tails.ts'
import { createTranslator, type Translate } from './translate.ts'

/** An event as a connection sends it: its id, its method, and the whole of it as JSON text. */
export interface SentFrame {
  id: string
  event: string
  data: string
}

export interface Session {
  /** Adds a subscription, or begins it anew: it hears what follows `since` (an event's number), or everything. `begin` is called
   *  right before: what is sent then comes after what the others heard and before the first that this one hears. */
  subscribe(id: string, wanted: Subscription, options?: { since?: number | undefined; begin?: () => void }): void
  /** False where there is none of that id. */
  unsubscribe(id: string): boolean
  /** How many there are. */
  size(): number
  /** What the subscriptions hear, an event once however many hear it. To be called once. Ends when the thread is deleted, or at
   *  once when `return` is called; throws `thread_not_found` for a thread that the caller may not see, `shutting_down` when the
   *  server ends it. */
  frames(): AsyncGenerator<SentFrame, void, undefined>
}

interface Subscriber {
  id: string
  hears: Hears
  since: number
  /** `live` once it has heard what it missed. */
  state: 'joining' | 'live' | 'gone'
  /** What asked for input before this does so no longer. */
  begun: number
  begin: (() => void) | undefined
}

/** Where a connection is in the log. */
interface Place {
  /** Up to here everything was given to those who are live. */
  seq: number
  translate: Translate | undefined
}

export interface SessionDeps {
  db: Db
  tails: Tails
  hangUps: HangUps
}

/** Says when the server ends connections: an AbortSignal takes thousands of listeners badly. */
export interface HangUps {
  hangingUp(): boolean
  /** Calls `leave` then, unless what it gives is called before. */
  on(leave: () => void): () => void
}

/** Makes a session of a thread. With `waits`, subscriptions to one that does not exist wait for it; else they end. */
export function createSession(
  deps: SessionDeps,
  threadId: string,
  visible: Sql,
  options: { waits: boolean } = { waits: false },
): Session {
  const { hangUps } = deps
  let subscribers: readonly Subscriber[] = []
  let joining: readonly Subscriber[] = []
  /** The thread is not there: nothing can come before what a subscription asks for. */
  let isParked = false
  let hasLeft = false
  let waiting: (() => void) | undefined

  const wake = (): void => waiting?.()
  const isOver = () => hasLeft || hangUps.hangingUp()
  const woken = () =>
    new Promise<void>((resolve) => {
      waiting = resolve
    })

  async function* tell(): AsyncGenerator<SentFrame, void, undefined> {
    const stay = hangUps.on(wake)
    let tail: Tail | undefined
    let listener: Listener | undefined
    try {
      while (joining.length === 0 && !isOver()) await woken()
      if (!isOver()) tail = await deps.tails.open(threadId)
      const start = tail && (await found(tail))
      if (tail !== undefined && start !== undefined) {
        welcome(start)
        const place: Place = { seq: start.after, translate: undefined }
        listener = tail.listen(start.after, { untilGone: true, wake })
        while (!isOver()) {
          const [late, ...others] = joining
          if (late !== undefined) {
            joining = others
            const from = await beginning(late.since)
            if (from === undefined) return
            late.begun = from.begun
            begun(late)
            yield* replay(tail, late, from.after, place.seq)
            enter(late, from.begun)
          } else if (listener.ready()) {
            const items = await listener.take()
            if (items === undefined) break
            for (const item of items) {
              if ('gone' in item) return
              if ('seq' in item) yield* live(item, place)
              if (isOver()) break
            }
          } else await woken()
        }
      }
      if (hangUps.hangingUp() && !hasLeft) throw new ApiError('shutting_down')
    } finally {
      stay()
      listener?.close()
      tail?.close()
    }
  }

  /** What those who are here missed comes before what happens: nothing can overtake it. */
  function welcome(start: events.Beginning & { since: number }): void {
    const first = joining.filter(({ since }) => since >= start.since)
    joining = joining.filter((subscriber) => !first.includes(subscriber))
    for (const subscriber of first) enter(subscriber, start.begun)
  }

  const beginning = (since: number) => events.beginningOf(deps.db, threadId, logSeqOf(since), visible)
  const earliest = () => Math.min(...joining.map(({ since }) => since))

  /** Where to begin, once the thread is there; undefined where it is not, or the connection ends first. */
  async function found(tail: Tail): Promise<(events.Beginning & { since: number }) | undefined> {
    const since = earliest()
    const start = await beginning(since)
    if (start !== undefined) return { ...start, since }
    if (!options.waits) return undefined
    isParked = true
    for (const subscriber of joining) begun(subscriber)
    const listener = tail.listen(0, { untilGone: false, wake })
    try {
      while (!isOver()) {
        if (!listener.ready()) await woken()
        const items = await listener.take()
        if (items === undefined) return undefined
        for (const _ of items) {
          const late = await beginning(earliest())
          // It is there, and not for this caller.
          if (late === undefined) throw new ApiError('thread_not_found')
          isParked = false
          return { ...late, since: earliest() }
        }
      }
    } finally {
      listener.close()
    }
    return undefined
  }

  /** What a subscription missed, up to the place that the others are at. */
  async function* replay(
    tail: Tail,
    subscriber: Subscriber,
    start: number,
    upTo: number,
  ): AsyncGenerator<SentFrame, void, undefined> {
    const translate = createTranslator()
    for (let after = start; after < upTo; ) {
      const page = await tail.read(after)
      for (const batch of page.batches) {
        for (const logged of decodeBatch(batch, after)) {
          if (logged.seq > upTo) return
          for (const event of translate(logged)) {
            const namespace = heard(subscriber, event)
            if (namespace !== undefined) yield sent(event, namespace)
          }
        }
        after = Math.max(after, batch.last_seq)
      }
      if (!page.more) return
    }
  }

  /** An event is told once, however many hear it, unless they hear it under different namespaces. */
  function* live(logged: LoggedEvent, place: Place): Generator<SentFrame, void, undefined> {
    place.translate ??= createTranslator()
    for (const event of place.translate(logged)) {
      const told = new Set<string>()
      for (const subscriber of subscribers) {
        const namespace = subscriber.state === 'live' ? heard(subscriber, event) : undefined
        if (namespace === undefined || told.has(namespace.join('|'))) continue
        told.add(namespace.join('|'))
        yield sent(event, namespace)
      }
    }
    place.seq = logged.seq
  }

  function unsubscribe(id: string): boolean {
    const subscriber = subscribers.find((one) => one.id === id)
    if (subscriber === undefined) return false
    subscriber.state = 'gone'
    subscribers = subscribers.filter((one) => one !== subscriber)
    return true
  }

  return {
    subscribe(id, wanted, { since = 0, begin } = {}) {
      unsubscribe(id)
      const subscriber: Subscriber = { id, hears: hearsOf(wanted), since, state: 'joining', begun: 0, begin }
      subscribers = subscribers.concat(subscriber)
      joining = joining.concat(subscriber)
      if (isParked) begun(subscriber)
      wake()
    },
    unsubscribe,
    size: () => subscribers.length,
    frames() {
      const told = tell()
      const { return: end } = told
      // A generator that waits would hear of it only after its wait.
      told.return = (value) => {
        hasLeft = true
        wake()
        return end.call(told, value)
      }
      return told
    },
  }
}

/** The hanging up of a server. */
export function createHangUps(): HangUps & { hangUp(): void } {
  const leaving = new Set<() => void>()
  let isOver = false
  return {
    hangingUp: () => isOver,
    on(leave) {
      leaving.add(leave)
      return () => leaving.delete(leave)
    },
    hangUp() {
      isOver = true
      for (const leave of leaving) leave()
    },
  }
}

/** Says once that a subscription begins. */
function begun(subscriber: Subscriber): void {
  subscriber.begin?.()
  subscriber.begin = undefined
}

function enter(subscriber: Subscriber, since: number): void {
  subscriber.begun = since
  begun(subscriber)
  if (subscriber.state === 'joining') subscriber.state = 'live'
}

function heard({ hears, since, state, begun }: Subscriber, event: ThreadEvent): readonly string[] | undefined {
  if (state === 'gone' || event.seq <= since) return undefined
  return event.asks && logSeqOf(event.seq) < begun ? undefined : hears(event)
}

const sent = (event: ThreadEvent, namespace: readonly string[]): SentFrame => ({
  id: idOf(event),
  event: event.method,
  data: frameOf(event, namespace),
})
