// The one connection that listens for and sends notifications. In charge of noticing that it is deaf (a dead peer, or a pooler
// between that forgets LISTEN) and of reconnecting; holds no transaction and keeps nothing for later.

import type { Socket } from 'node:net'
import pg from 'pg'
import { messageOf } from '../errors.ts'

export interface NotifyOptions {
  /** postgres:// URI; not through a pooler in transaction mode, which cannot listen. */
  uri: string
  /** The Postgres channel, the same for every process of a deployment: an identifier of lower-case letters and _. */
  channel?: string
  /** A connection on which a notification to oneself does not come back for this long is taken for dead; 10 s by default. */
  deadAfterMs?: number
  onPayload: (payload: string) => void
  onRestored: () => void
  /** Called once when it goes down, not at each vain attempt. */
  onDown: (error: unknown) => void
}

export interface Notifier {
  readonly description: string
  ready(): boolean
  notify(payloads: string[]): Promise<void>
  close(): Promise<void>
}

const PROBE = 'probe'

type Listening = Required<Pick<NotifyOptions, 'uri' | 'channel' | 'deadAfterMs' | 'onPayload'>>

interface Connection {
  client: pg.Client
  close: () => Promise<void>
}

/** Listens. Goes on trying in the background when the first attempt fails. */
export async function openNotify(options: NotifyOptions): Promise<Notifier> {
  const { uri, channel = 'heddle', deadAfterMs = 10_000, onPayload } = options
  if (!/^[a-z_]{1,60}$/.test(channel)) throw new Error(`not a notification channel: ${channel}`)
  let current: Connection | undefined
  let retry: NodeJS.Timeout | undefined
  let state: 'starting' | 'up' | 'down' = 'starting'
  let closed = false

  const lost = (attempt: number) => (error: unknown) => {
    current = undefined
    if (closed) return
    if (state !== 'down') options.onDown(error)
    state = 'down'
    retry = setTimeout(() => void attemptTo(attempt + 1), backoff(attempt))
    retry.unref()
  }
  const attemptTo = async (attempt: number): Promise<void> => {
    try {
      const connection = await listen({ uri, channel, deadAfterMs, onPayload }, lost(0))
      if (closed) return void connection.close()
      current = connection
      const restored = state === 'down'
      state = 'up'
      if (restored) options.onRestored()
    } catch (error) {
      lost(attempt)(error)
    }
  }
  await attemptTo(0)
  return {
    description: 'postgres (listen/notify)',
    ready: () => current !== undefined,
    async notify(payloads) {
      if (!current) throw new Error('not connected')
      await current.client.query('select pg_notify($1, x) from unnest($2::text[]) x', [channel, payloads])
    },
    async close() {
      closed = true
      clearTimeout(retry)
      const last = current
      current = undefined
      await last?.close()
    },
  }
}

const backoff = (attempt: number): number =>
  Math.min(2_000, 50 * 2 ** Math.min(attempt, 6)) * (0.75 + Math.random() / 2)

/** Resolves once a notification to itself has come back. `onLost` is called at most once, and only after that. */
async function listen(
  { uri, channel, deadAfterMs, onPayload }: Listening,
  onLost: (error: unknown) => void,
): Promise<Connection> {
  const client = new pg.Client({
    connectionString: uri,
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
    application_name: 'heddle notify',
    query_timeout: 10_000,
  })
  const own = `${PROBE}:${process.pid}:${Math.random().toString(36).slice(2)}`
  let heard = () => {}
  let fail: (error: unknown) => void = () => {}
  let impatient: NodeJS.Timeout | undefined
  let over = false
  const close = async () => {
    over = true
    clearInterval(beat)
    fail(new Error('closed'))
    // A peer that is gone answers no farewell.
    const farewell = setTimeout(() => socketOf(client).destroy(), 500)
    await client.end().catch(() => {})
    clearTimeout(farewell)
    socketOf(client).destroy()
  }
  const probe = () =>
    new Promise<void>((resolve, reject) => {
      heard = resolve
      fail = reject
      clearTimeout(impatient)
      impatient = setTimeout(() => reject(new Error(DEAF)), deadAfterMs / 2)
      client.query('select pg_notify($1, $2)', [channel, own]).catch(reject)
    }).finally(() => clearTimeout(impatient))
  const lose = (error: unknown) => {
    fail(error)
    if (over || !established) return
    void close()
    onLost(error)
  }
  let established = false
  client.on('error', lose)
  client.on('end', () => lose(new Error('the connection that listens for notifications was closed')))
  client.on('notification', ({ payload = '' }) => {
    if (payload === own) heard()
    else if (!payload.startsWith(PROBE)) onPayload(payload)
  })
  const beat = setInterval(() => established && probe().catch(lose), deadAfterMs / 2)
  beat.unref()
  try {
    await client.connect()
    // By chance a pooler's server process may be met again, and the probe heard, while most notifications go elsewhere.
    const { rows } = await client.query('select pg_backend_pid() as pid')
    if (rows[0].pid !== (client as unknown as { processID: number }).processID) throw new Error(POOLED)
    await client.query(`listen ${channel}`)
    await probe()
    established = true
    return { client, close }
  } catch (error) {
    void close()
    throw new Error(`cannot listen for notifications: ${messageOf(error)}`, { cause: error })
  }
}

const socketOf = (client: pg.Client): Socket =>
  (client as unknown as { connection: { stream: Socket } }).connection.stream

const POOLED =
  'a pooler in transaction mode is between, so what other processes say is noticed by polling: give a direct address, or a Redis'
const DEAF =
  'a notification to itself did not come back in time: the server is out of reach, or a pooler in transaction mode is between'
