// The bus of a single process. In charge of nothing but handing messages to the subscribers in it.

import { type Observe, silent } from '../observe.ts'
import type { Bus } from './bus.ts'
import { createLocalSubscribers } from './local.ts'

/** A bus that reaches this process only; it is healthy until it is closed. */
export function createMemoryBus(observe: Observe = silent): Bus {
  const local = createLocalSubscribers(observe)
  let closed = false
  return {
    kind: 'memory',
    description: 'memory (one process)',
    publish: (channel, message) => {
      if (!closed) local.deliver(channel, message)
    },
    subscribe: async (channel, listener, onGap) => {
      const remove = local.add(channel, listener, onGap)
      return () => void remove()
    },
    healthy: () => !closed,
    close: async () => {
      closed = true
      local.clear()
    },
  }
}
