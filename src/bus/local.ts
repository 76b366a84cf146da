// The subscribers in this process. In charge of delivering to them in order and in the same turn; knows of no network, and
// a listener that throws must not reach whoever published.

import { randomBytes } from 'node:crypto'
import type { Observe } from '../observe.ts'
import type { BusMessage } from './bus.ts'

interface Subscriber {
  listener: (message: BusMessage) => void
  onGap: (() => void) | undefined
}

export interface LocalSubscribers {
  /** Adds a subscriber; returns the way to remove it, which says whether it was the channel's last (and the first time only). */
  add(channel: string, listener: (message: BusMessage) => void, onGap?: () => void): () => boolean
  has(channel: string): boolean
  channels(): string[]
  deliver(channel: string, message: BusMessage): void
  /** Tells everybody that messages may have been missed. */
  gap(): void
  clear(): void
}

/** An empty set of subscribers. */
export function createLocalSubscribers(observe: Observe): LocalSubscribers {
  const byChannel = new Map<string, Set<Subscriber>>()
  const waiting: { channel: string; message: BusMessage }[] = []
  let delivering = false

  const call = (work: () => void) => {
    try {
      work()
    } catch (error) {
      observe({ kind: 'bus_failed', where: 'subscriber', error })
    }
  }
  return {
    add(channel, listener, onGap) {
      const subscriber: Subscriber = { listener, onGap }
      const subscribers = byChannel.get(channel) ?? new Set()
      byChannel.set(channel, subscribers.add(subscriber))
      return () => {
        if (!subscribers.delete(subscriber) || subscribers.size > 0) return false
        if (byChannel.get(channel) !== subscribers) return false
        return byChannel.delete(channel)
      }
    },
    has: (channel) => byChannel.has(channel),
    channels: () => [...byChannel.keys()],
    deliver(channel, message) {
      waiting.push({ channel, message })
      // A listener may publish: what it says comes after what everybody is just hearing.
      if (delivering) return
      delivering = true
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const { message: heard } = next
        for (const subscriber of [...(byChannel.get(next.channel) ?? [])]) {
          if (byChannel.get(next.channel)?.has(subscriber)) call(() => subscriber.listener(heard))
        }
      }
      delivering = false
    },
    gap() {
      for (const subscribers of [...byChannel.values()])
        for (const { onGap } of [...subscribers]) if (onGap) call(onGap)
    },
    clear: () => byChannel.clear(),
  }
}

/** A name for one bus in one process, by which it knows its own messages when they come back. */
export const newOrigin = (): string => randomBytes(9).toString('base64url')
