// Gathers the events of one turn of the event loop into one frame, within bounds.

import type { RunPort } from './guest.ts'
import type { StreamEvent } from './protocol.ts'

/** Events on their way to the server. */
export interface EventBatch {
  add(event: string, data: string): void
  /** A promise while the server is behind; undefined when there is room. */
  room(): Promise<void> | undefined
  /** Sends what is gathered. */
  flush(): Promise<void>
}

const MAX_CHARS = 64 * 1024

/** Sends at the end of the turn in which the first event came, or when 64 Ki characters are gathered. */
export function createEventBatch(port: Pick<RunPort, 'events'>): EventBatch {
  let events: StreamEvent[] = []
  let chars = 0
  let timer: NodeJS.Immediate | undefined
  let behind: Promise<void> | undefined
  const send = () => {
    clearImmediate(timer)
    timer = undefined
    if (events.length === 0) return
    const room = port.events(events)
    if (room) {
      const waiting = room.then(() => {
        if (behind === waiting) behind = undefined
      })
      behind = waiting
    }
    events = []
    chars = 0
  }
  return {
    add: (event, data) => {
      events.push({ event, data })
      chars += data.length
      if (chars > MAX_CHARS) send()
      else timer ??= setImmediate(send)
    },
    room: () => behind,
    flush: async () => send(),
  }
}
