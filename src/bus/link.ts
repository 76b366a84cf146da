// The connections to Redis. In charge of reconnecting and of hiding how a single server and a cluster differ; knows nothing of
// messages, and never queues a command for later: what cannot be sent now is refused.

import { createClient, createCluster, type RedisClientOptions } from 'redis'
import { ConfigError } from '../errors.ts'

export interface LinkOptions {
  /** redis:// or rediss:// URL; of any node, in a cluster. */
  url: string
  cluster: boolean
  /** A connection that brings nothing for this long is dead. */
  deadAfterMs: number
  /** Every subscription of before is in force again, or (the first time) can be made. */
  onReady: () => void
  onDown: (error: unknown) => void
}

export interface RedisLink {
  ready(): boolean
  /** Gives how many have it, those of this process too. */
  publish(channel: string, text: string): Promise<number>
  subscribe(channel: string, listener: (text: string, channel: string) => void): Promise<void>
  unsubscribe(channel: string, listener: (text: string, channel: string) => void): Promise<void>
  close(): Promise<void>
}

/** How long to wait before the nth attempt to reconnect: doubling from 50 ms to 2 s, spread so that processes do not return at once. */
export const backoff = (attempt: number): number =>
  Math.min(2_000, 50 * 2 ** Math.min(attempt, 6)) * (0.75 + Math.random() / 2)

const settings = ({ deadAfterMs }: LinkOptions) =>
  ({
    disableOfflineQueue: true,
    // What a stuck server has not acknowledged by then is refused rather than kept.
    commandsQueueMaxLength: 20_000,
    // Nor has each command a timer of its own: the silence of the connection ends them all.
    commandOptions: { timeout: 0 },
    pingInterval: Math.ceil(deadAfterMs / 3),
    socket: { reconnectStrategy: backoff, connectTimeout: 5_000, socketTimeout: deadAfterMs },
  }) as const satisfies RedisClientOptions

/** Begins to connect, and goes on in the background. Throws `ConfigError` for a URL that is none. */
export function openLink(options: LinkOptions): RedisLink {
  if (!/^rediss?:\/\/./.test(options.url) || !URL.canParse(options.url)) {
    throw new ConfigError('The Redis URL must look like redis://[user:password@]host:port[/database].')
  }
  return options.cluster ? openCluster(options) : openServer(options)
}

function openServer(options: LinkOptions): RedisLink {
  const { url, onReady, onDown } = options
  const publisher = createClient({ ...settings(options), url })
  const subscriber = createClient({ ...settings(options), url })
  const ready = () => publisher.isReady && subscriber.isReady
  for (const client of [publisher, subscriber]) {
    client.on('error', onDown)
    client.on('ready', () => ready() && onReady())
    client.connect().catch(onDown)
  }
  return {
    ready,
    publish: (channel, text) => publisher.publish(channel, text),
    subscribe: (channel, listener) => subscriber.subscribe(channel, listener),
    unsubscribe: (channel, listener) => subscriber.unsubscribe(channel, listener),
    close: async () => {
      for (const client of [publisher, subscriber]) client.destroy()
    },
  }
}

/** Sharded channels: a plain one would be sent to every node of the cluster, and by a random one, which loses the order. */
function openCluster(options: LinkOptions): RedisLink {
  const { url, onReady, onDown } = options
  const cluster = createCluster({ rootNodes: [{ url }], defaults: { ...settings(options), ...credentials(url) } })
  const down = new Set<string>()
  const name = (node: { host: string; port: number }) => `${node.host}:${node.port}`
  let connected = false
  let closed = false
  cluster.on('error', onDown)
  cluster.on('node-error', (error: unknown, node: { host: string; port: number }) => {
    down.add(name(node))
    onDown(error)
  })
  cluster.on('node-ready', (node: { host: string; port: number }) => {
    down.delete(name(node))
    if (connected && down.size === 0) onReady()
  })
  cluster.on('node-disconnect', (node: { host: string; port: number }) => down.delete(name(node)))
  const connect = async (attempt: number): Promise<void> => {
    try {
      await cluster.connect()
      connected = true
      onReady()
    } catch (error) {
      if (closed) return
      onDown(error)
      setTimeout(() => void connect(attempt + 1), backoff(attempt)).unref()
    }
  }
  void connect(0)
  return {
    ready: () => connected && down.size === 0,
    publish: (channel, text) => cluster.sPublish(channel, text),
    subscribe: (channel, listener) => cluster.sSubscribe(channel, listener),
    unsubscribe: (channel, listener) => cluster.sUnsubscribe(channel, listener),
    close: async () => {
      closed = true
      if (connected) cluster.destroy()
    },
  }
}

function credentials(url: string): Pick<RedisClientOptions, 'username' | 'password'> {
  const { username, password } = new URL(url)
  return {
    ...(username ? { username: decodeURIComponent(username) } : {}),
    ...(password ? { password: decodeURIComponent(password) } : {}),
  }
}
