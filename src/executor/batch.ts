// Gathers the events of one turn of the event loop into one frame, within bounds.

import type { RunPort } from './guest.ts'
import type { StreamEvent } from './protocol.ts'

/** Events on their way to the server. */
export interface EventBatch {
  /** An urgent event does not wait for others after a pause, and hardly otherwise. */
  add(event: string, data: string, urgent?: boolean): void
  /** A promise while the server is behind; undefined when there is room. */
  room(): Promise<void> | undefined
  /** Sends what is gathered, and waits for room. */
  flush(): Promise<void>
}

const MAX_CHARS = 64 * 1024
/** A turn may be long: a model that never waits streams all its tokens in one, and the first must not wait for the last. */
const URGENT_MS = 1
/** So may a graph that never waits; but each frame on its own makes the server write and commit on its own. */
const MAX_MS = 10

/** Sends at the end of the turn in which the first event came, or when 64 Ki characters are gathered. */
export function createEventBatch(port: Pick<RunPort, 'events'>): EventBatch {
  let events: StreamEvent[] = []
  let chars = 0
  let since = 0
  let sent = 0
  let timer: NodeJS.Immediate | undefined
  let behind: Promise<void> | undefined
  const send = (options?: { now: boolean }) => {
    clearImmediate(timer)
    timer = undefined
    if (events.length === 0) return
    sent = performance.now()
    const batch = events
    events = []
    chars = 0
    try {
      const waiting = port.events(batch, options).then(() => {
        if (behind === waiting) behind = undefined
      })
      behind = waiting
    } catch (error) {
      // Too large for any frame. Whoever waits for room, or for the end, hears of it.
      behind = Promise.reject(error)
      behind.catch(() => {})
    }
  }
  return {
    add: (event, data, urgent) => {
      const now = performance.now()
      if (events.length === 0) since = urgent ? Math.min(now, sent) : now
      events.push({ event, data })
      chars += data.length
      if (chars > MAX_CHARS) send()
      else if (now - since > (urgent ? URGENT_MS : MAX_MS)) send({ now: true })
      else timer ??= setImmediate(() => send())
    },
    room: () => behind,
    flush: async () => {
      send()
      if (behind) await behind
    },
  }
}
