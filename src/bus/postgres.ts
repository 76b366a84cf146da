// The bus over Postgres LISTEN/NOTIFY, for deployments without Redis. In charge of packing many messages into one statement
// (a commit that notifies takes a lock of the whole database server) and of staying under NOTIFY's size; speaks no SQL itself.

import type { Observe } from '../observe.ts'
import { type Bus, type BusMessage, bodySize } from './bus.ts'
import { createLocalSubscribers, newOrigin } from './local.ts'

/** What the bus hears from the listening connection. */
export interface NotifyHandlers {
  onPayload: (payload: string) => void
  /** Listening again after having been cut off. */
  onRestored: () => void
  onDown: (error: unknown) => void
}

/** One connection that listens and notifies, and reconnects by itself. */
export interface NotifyClient {
  /** For the start-up line: never holds a password. */
  readonly description: string
  ready(): boolean
  /** Sends all of them in one statement, in order; rejects when they may not have been sent. */
  notify(payloads: string[]): Promise<void>
  close(): Promise<void>
}

export interface PostgresBusOptions {
  connect: (handlers: NotifyHandlers) => Promise<NotifyClient>
  observe: Observe
  /** Postgres keeps notifications on disk for a moment: what is encrypted there must not be in them. */
  hintsOnly?: boolean
}

/** NOTIFY takes less than 8000 bytes. */
const MAX_PAYLOAD = 7_999
/** What waits for the statement in flight; more than this is dropped, as while disconnected. */
const MAX_WAITING = 20_000

/** A bus over the connection that `connect` opens. */
export async function createPostgresBus({ connect, observe, hintsOnly }: PostgresBusOptions): Promise<Bus> {
  const local = createLocalSubscribers(observe)
  const origin = newOrigin()
  let waiting: string[] = []
  let sending = false
  let closed = false
  let count = 0

  const client = await connect({
    onPayload: (payload) => {
      const heard = decode(payload)
      if (!heard) observe({ kind: 'bus_failed', where: 'message', error: new Error('unreadable notification') })
      else if (heard.origin !== origin) local.deliver(heard.channel, heard.message)
    },
    onRestored: () => {
      observe({ kind: 'bus_restored' })
      local.gap()
    },
    onDown: (error) => observe({ kind: 'bus_failed', where: 'postgres', error }),
  })

  const pack = (channel: string, message: BusMessage): string | undefined => {
    const { hint } = message
    // The count makes equal messages differ: Postgres folds equal notifications of one transaction into one.
    const head = [origin, count++, channel, hint]
    if (!hintsOnly && bodySize(message) < MAX_PAYLOAD && message.body !== undefined) {
      const whole = JSON.stringify([...head, message.body])
      if (Buffer.byteLength(whole) <= MAX_PAYLOAD) return whole
    }
    const small = JSON.stringify(head)
    if (Buffer.byteLength(small) <= MAX_PAYLOAD) return small
    observe({ kind: 'bus_failed', where: 'publish', error: new Error(`a hint on ${channel} is too large for NOTIFY`) })
    return undefined
  }
  const send = async () => {
    sending = true
    while (waiting.length > 0 && client.ready()) {
      const batch = waiting
      waiting = []
      try {
        await client.notify(batch)
      } catch (error) {
        if (!closed && client.ready()) observe({ kind: 'bus_failed', where: 'publish', error })
      }
    }
    waiting = []
    sending = false
  }
  return {
    kind: 'postgres',
    description: client.description,
    publish(channel, message) {
      if (closed) return
      local.deliver(channel, message)
      if (!client.ready() || waiting.length >= MAX_WAITING) return
      const payload = pack(channel, message)
      if (payload === undefined) return
      waiting.push(payload)
      // What is published in this turn goes out together.
      if (!sending) {
        sending = true
        queueMicrotask(() => void send())
      }
    },
    async subscribe(channel, listener, onGap) {
      const remove = local.add(channel, listener, onGap)
      return () => void remove()
    },
    healthy: () => !closed && client.ready(),
    async close() {
      closed = true
      local.clear()
      await client.close()
    },
  }
}

function decode(payload: string): { origin: string; channel: string; message: BusMessage } | undefined {
  try {
    const [origin, , channel, hint, body] = JSON.parse(payload) as [string, number, string, BusMessage['hint'], string?]
    return { origin, channel, message: body === undefined ? { hint } : { hint, body } }
  } catch {
    return undefined
  }
}
