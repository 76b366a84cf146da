// A connection of the thread protocol, whatever carries it. In charge of giving each subscription the log after where it asks to
// begin and then what happens, once each and in order, and of never letting what happens overtake what happened before.

import type { Db } from '../db/db.ts'
import * as events from '../db/events.ts'
import type { Sql } from '../db/sql.ts'
import { ApiError } from '../errors.ts'
import { decodeBatch, type LoggedEvent } from './log.ts'
import { frameOf, idOf, logSeqOf, type ThreadEvent } from './protocol.ts'
import { type Hears, hearsOf, type Subscription } from './subscription.ts'
import type { Tail, Tails } from './tails.ts'
import { createTranslator, type Translate } from './translate.ts'

/** An event as a connection sends it. */
export interface SentFrame {
  id: string
  method: string
  /** The whole event as JSON text. */
  text: string
}

export interface Session {
  /** Adds a subscription, or begins it anew: it hears what follows `since` (an event's number), or everything. `begin` is called
   *  right before: what is sent then comes after what the others heard and before the first that this one hears. */
  subscribe(id: string, wanted: Subscription, options?: { since?: number | undefined; begin?: () => void }): void
  /** False where there is none of that id. */
  unsubscribe(id: string): boolean
  /** How many there are. */
  size(): number
  /** What the subscriptions hear, an event once however many hear it. To be called once. Ends when the thread is deleted, or the
   *  signal aborts; throws `thread_not_found` for a thread that the caller may not see, `shutting_down` when the server ends it. */
  frames(signal: AbortSignal): AsyncGenerator<SentFrame, void, undefined>
}

interface Subscriber {
  hears: Hears
  since: number
  /** `live` once it has heard what it missed. */
  state: 'joining' | 'live' | 'gone'
  /** What asked for input before this does so no longer. */
  begun: number
  begin: () => void
}

/** Where a connection is in the log. */
interface Place {
  /** Up to here everything was given to those who are live. */
  seq: number
  translate: Translate
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
  const subscribers = new Map<string, Subscriber>()
  let joining: Subscriber[] = []
  /** The thread is not there: nothing can come before what a subscription asks for. */
  let isParked = false
  let wake: () => void = () => {}

  async function* frames(signal: AbortSignal): AsyncGenerator<SentFrame, void, undefined> {
    const stop = new AbortController()
    const leave = () => {
      stop.abort()
      wake()
    }
    signal.addEventListener('abort', leave)
    const stay = hangUps.on(leave)
    let tail: Tail | undefined
    try {
      if (signal.aborted || hangUps.hangingUp()) leave()
      while (joining.length === 0 && !stop.signal.aborted) await woken()
      if (!stop.signal.aborted) {
        tail = await deps.tails.open(threadId)
        const start = await found(tail, stop.signal)
        if (start !== undefined) yield* follow(tail, start, stop.signal)
      }
      if (hangUps.hangingUp() && !signal.aborted) throw new ApiError('shutting_down')
    } finally {
      signal.removeEventListener('abort', leave)
      stay()
      stop.abort()
      tail?.close()
    }
  }

  const beginning = (since: number) => events.beginningOf(deps.db, threadId, logSeqOf(since), visible)
  const earliest = () => Math.min(...joining.map(({ since }) => since))

  /** Where to begin, once the thread is there; undefined where it is not, or the signal aborts first. */
  async function found(tail: Tail, signal: AbortSignal): Promise<(events.Beginning & { since: number }) | undefined> {
    const since = earliest()
    const start = await beginning(since)
    if (start !== undefined) return { ...start, since }
    if (!options.waits) return undefined
    isParked = true
    for (const { begin } of joining) begin()
    for await (const _ of tail.follow(0, { caughtUp: false, signal })) {
      const late = await beginning(earliest())
      // It is there, and not for this caller.
      if (late === undefined) throw new ApiError('thread_not_found')
      isParked = false
      return { ...late, since: earliest() }
    }
    return undefined
  }

  async function* follow(
    tail: Tail,
    start: events.Beginning & { since: number },
    signal: AbortSignal,
  ): AsyncGenerator<SentFrame, void, undefined> {
    // What those who are here missed comes before what happens: nothing can overtake it.
    const first = joining.filter(({ since }) => since >= start.since)
    joining = joining.filter((subscriber) => !first.includes(subscriber))
    for (const subscriber of first) enter(subscriber, start.begun)
    const place: Place = { seq: start.after, translate: createTranslator() }
    const items = tail.follow(start.after, { caughtUp: false, untilGone: true, signal })
    let next = items.next()
    try {
      while (!signal.aborted) {
        const late = joining.shift()
        if (late !== undefined) {
          const from = await beginning(late.since)
          if (from === undefined) return
          late.begun = from.begun
          late.begin()
          yield* replay(tail, late, from.after, place.seq)
          enter(late, from.begun)
          continue
        }
        const item = await nextOrWoken(next)
        if (item === undefined) continue
        if (item.done || 'gone' in item.value) return
        next = items.next()
        if ('seq' in item.value) yield* live(item.value, place)
      }
    } finally {
      next.catch(() => {})
      void items.return(undefined).catch(() => {})
    }
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
    for (const event of place.translate(logged)) {
      const told = new Set<string>()
      for (const subscriber of subscribers.values()) {
        const namespace = subscriber.state === 'live' ? heard(subscriber, event) : undefined
        if (namespace === undefined || told.has(namespace.join('|'))) continue
        told.add(namespace.join('|'))
        yield sent(event, namespace)
      }
    }
    place.seq = logged.seq
  }

  const woken = () =>
    new Promise<void>((resolve) => {
      wake = resolve
    })

  /** The next item; undefined where a subscription comes first. */
  const nextOrWoken = <T>(next: Promise<T>): Promise<T | undefined> =>
    new Promise((resolve, reject) => {
      wake = () => resolve(undefined)
      next.then(resolve, reject)
    })

  function unsubscribe(id: string): boolean {
    const subscriber = subscribers.get(id)
    if (subscriber) subscriber.state = 'gone'
    return subscribers.delete(id)
  }

  return {
    subscribe(id, wanted, { since = 0, begin } = {}) {
      unsubscribe(id)
      const subscriber: Subscriber = { hears: hearsOf(wanted), since, state: 'joining', begun: 0, begin: once(begin) }
      subscribers.set(id, subscriber)
      joining.push(subscriber)
      if (isParked) subscriber.begin()
      wake()
    },
    unsubscribe,
    size: () => subscribers.size,
    frames,
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

function once(act: () => void = () => {}): () => void {
  let done = false
  return () => {
    if (!done) act()
    done = true
  }
}

function enter(subscriber: Subscriber, begun: number): void {
  subscriber.begun = begun
  subscriber.begin()
  if (subscriber.state === 'joining') subscriber.state = 'live'
}

function heard({ hears, since, state, begun }: Subscriber, event: ThreadEvent): readonly string[] | undefined {
  if (state === 'gone' || event.seq <= since) return undefined
  return event.asks && logSeqOf(event.seq) < begun ? undefined : hears(event)
}

const sent = (event: ThreadEvent, namespace: readonly string[]): SentFrame => ({
  id: idOf(event),
  method: event.method,
  text: frameOf(event, namespace),
})
