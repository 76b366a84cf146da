// The bus over Redis. In charge of one publishing and one subscribing connection for the whole process; everything on it is a
// hint, so it keeps nothing while disconnected and tells the subscribers to look at the database when it is back.

import type { Observe } from '../observe.ts'
import { type Bus, type BusMessage, bodySize } from './bus.ts'
import { openLink, type RedisLink } from './link.ts'
import { createLocalSubscribers, newOrigin } from './local.ts'

export interface RedisBusOptions {
  /** redis:// or rediss:// URL. */
  url: string
  /** Goes before every channel's name, so that several deployments can share a server. */
  prefix?: string
  cluster?: boolean
  /** A connection that brings nothing for this long, not even an answer to a ping, is taken for dead; 10 s by default. */
  deadAfterMs?: number
  /** How long a subscriber waits to be heard, 25 ms by default; after that it goes on, and is told to look for itself once it is. */
  subscribeWaitMs?: number
  observe: Observe
}

/** A larger body is left out: it is in the log, and Redis cuts subscribers off that fall behind by megabytes. */
const MAX_BODY = 1024 * 1024
/** A larger one is left out, too, where the last message of its channel reached nobody: who comes meanwhile reads the log. */
const MAX_UNHEARD = 16 * 1024
/** Of how many channels it is known that somebody else hears them. */
const MAX_HEARD = 10_000
/** What Redis has not acknowledged, in characters; past it hints go without their bodies, and past twice as much not at all. */
const MAX_UNSENT = 8 * 1024 * 1024

/** How long a start waits for Redis; after that it goes on without, and polls until Redis is there. */
const START_WAIT_MS = 3_000

/** Connects, waiting a moment for the first connection. Throws `ConfigError` for a URL that is none. */
export async function createRedisBus(options: RedisBusOptions): Promise<Bus> {
  const { url, prefix = 'heddle:', cluster = false, deadAfterMs = 10_000, subscribeWaitMs = 25, observe } = options
  const local = createLocalSubscribers(observe)
  const origin = newOrigin()
  /** Channels whose state on the server may not be what the subscribers want. */
  const unsettled = new Set<string>()
  /** Channels whose last message reached others. */
  const heard = new Set<string>()
  let closed = false
  let unsent = 0
  let state: 'connecting' | 'up' | 'down' = 'connecting'
  let link: RedisLink

  const failed = (where: string) => (error: unknown) => {
    if (!closed && link.ready()) observe({ kind: 'bus_failed', where, error })
  }
  const onMessage = (text: string, channel: string) => {
    if (text.startsWith(origin)) return
    const message = decode(text.slice(origin.length))
    if (message) local.deliver(channel.slice(prefix.length), message)
    else observe({ kind: 'bus_failed', where: 'message', error: new Error(`unreadable message on ${channel}`) })
  }
  const settle = async (channel: string) => {
    unsettled.add(channel)
    if (!link.ready()) return
    try {
      await (local.has(channel)
        ? link.subscribe(prefix + channel, onMessage)
        : link.unsubscribe(prefix + channel, onMessage))
      unsettled.delete(channel)
    } catch (error) {
      unsettled.add(channel)
      failed('subscribe')(error)
    }
  }
  const onReady = async () => {
    const was = state
    state = 'up'
    await Promise.all([...unsettled].map(settle))
    if (closed) return
    if (was !== 'connecting') observe({ kind: 'bus_restored' })
    local.gap()
  }
  const started = new Promise<void>((resolve) => {
    const giveUp = setTimeout(resolve, START_WAIT_MS)
    link = openLink({
      url,
      cluster,
      deadAfterMs,
      onReady: () => {
        clearTimeout(giveUp)
        resolve()
        void onReady()
      },
      onDown: (error) => {
        if (!closed && state !== 'down') observe({ kind: 'bus_failed', where: 'redis', error })
        state = 'down'
      },
    })
  })
  await started
  return {
    kind: 'redis',
    description: `redis ${new URL(url).host}${cluster ? ' (cluster)' : ''}`,
    publish(channel, message) {
      if (closed) return
      local.deliver(channel, message)
      if (!link.ready() || unsent > 2 * MAX_UNSENT) return
      const size = bodySize(message)
      const fits = unsent <= MAX_UNSENT && size <= (heard.has(channel) ? MAX_BODY : MAX_UNHEARD)
      const text = origin + encode(fits ? message : { hint: message.hint })
      unsent += text.length
      const sent = (receivers: number) => {
        unsent -= text.length
        if (receivers <= (local.has(channel) ? 1 : 0)) heard.delete(channel)
        else if (heard.size < MAX_HEARD) heard.add(channel)
        else heard.clear()
      }
      link.publish(prefix + channel, text).then(sent, (error: unknown) => {
        sent(0)
        failed('publish')(error)
      })
    },
    async subscribe(channel, listener, onGap) {
      const isFirst = !local.has(channel)
      const remove = local.add(channel, listener, onGap)
      let isGone = false
      // Another may have begun just now and not be heard yet: asking twice does no harm.
      if (isFirst || unsettled.has(channel)) {
        const settled = settle(channel)
        // Nobody waits for a slow server: what it does not bring until then is looked up.
        if (!(await within(subscribeWaitMs, settled))) void settled.then(() => isGone || onGap?.())
      }
      return () => {
        isGone = true
        if (remove() && !closed) void settle(channel)
      }
    },
    healthy: () => !closed && link.ready(),
    async close() {
      closed = true
      local.clear()
      await link.close()
    },
  }
}

/** False when it takes longer. */
function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  return new Promise((resolve) => {
    const late = setTimeout(resolve, ms, false)
    void work.then(() => {
      clearTimeout(late)
      resolve(true)
    })
  })
}

/** The hint on one line, then the body as it is: bodies are JSON already, and escaping them again would cost more than sending. */
function encode({ hint, body }: BusMessage): string {
  return body === undefined ? JSON.stringify(hint) : `${JSON.stringify(hint)}\n${body}`
}

function decode(text: string): BusMessage | undefined {
  const end = text.indexOf('\n')
  try {
    const hint = JSON.parse(end < 0 ? text : text.slice(0, end)) as BusMessage['hint']
    return end < 0 ? { hint } : { hint, body: text.slice(end + 1) }
  } catch {
    return undefined
  }
}
