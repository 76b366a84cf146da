// How much of a run's stream is kept. In charge of counting what one attempt streams, and of putting one event, which says
// so, in the place of everything past a limit; what tells of the run itself always passes.

import type { StreamEvent } from '../executor/protocol.ts'
import { lengthOf } from '../pieces.ts'

/** What the stream of one attempt of a run may come to. */
export interface StreamLimits {
  maxBytes: number
  maxEvents: number
}

/** What a client is told where its run's stream was cut; the run goes on. */
export const TRUNCATED = 'truncated'

export interface Cap {
  /** The events that are to be kept of these; `onCut` is called once, when a limit is met. */
  admit(events: readonly StreamEvent[]): readonly StreamEvent[]
}

const isAboutTheRun = ({ event }: StreamEvent): boolean =>
  event.startsWith('__') || event === 'metadata' || event === 'error'

/** Counts from nothing. */
export function createCap(
  { maxBytes, maxEvents }: StreamLimits,
  onCut: (limit: 'bytes' | 'events', max: number) => void,
): Cap {
  let bytes = 0
  let count = 0
  let isCut = false

  const cut = (limit: 'bytes' | 'events'): StreamEvent => {
    isCut = true
    const max = limit === 'bytes' ? maxBytes : maxEvents
    onCut(limit, max)
    const words = limit === 'bytes' ? `${max} bytes` : `${max} events`
    const message = `The stream of this run has reached its limit of ${words}: the run goes on, but what it streams from here on is not sent. Its result is not affected.`
    return { event: TRUNCATED, data: JSON.stringify({ message, limit, max }) }
  }
  const one = (event: StreamEvent): StreamEvent | undefined => {
    if (isAboutTheRun(event)) return event
    if (isCut) return undefined
    bytes += event.state ? lengthOf(event.state) : Buffer.byteLength(event.data)
    count += 1
    return bytes > maxBytes ? cut('bytes') : count > maxEvents ? cut('events') : event
  }
  return {
    admit: (events) => events.map(one).filter((event) => event !== undefined),
  }
}
