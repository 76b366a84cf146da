// Connections that have gone silent: the peer is gone and nobody said so, or the network swallows what is sent. In charge of
// telling them from slow statements, by asking over a fresh connection, and of breaking them so that whoever waits is told;
// must never break a connection on which the server is at work.

import type { Socket } from 'node:net'
import pg from 'pg'

interface Held {
  client: pg.PoolClient
  bytes: number
  since: number
}

export interface SilenceOptions {
  uri: string
  /** How long nothing may come on a connection in use before it is suspected. */
  suspectAfterMs: number
  /** How long a fresh connection may take. */
  probeMs: number
  /** False behind a pooler, which hides which server process a connection is served by. */
  direct: boolean
}

/** Watches the connections of a pool that are in use. Returns the way to stop. */
export function breakSilent(pool: pg.Pool, options: SilenceOptions): () => void {
  const held = new Map<pg.PoolClient, Held>()
  let probing = false
  pool.on('acquire', (client) => {
    held.set(client, { client, bytes: read(client), since: performance.now() })
  })
  pool.on('release', (_error, client) => held.delete(client))
  pool.on('remove', (client) => held.delete(client))

  const silent = (now: number): Held[] =>
    [...held.values()].filter((one) => {
      const bytes = read(one.client)
      if (bytes !== one.bytes) Object.assign(one, { bytes, since: now })
      return now - one.since >= options.suspectAfterMs
    })
  const look = async (): Promise<void> => {
    const suspects = probing ? [] : silent(performance.now())
    if (suspects.length === 0) return
    probing = true
    const atWork = await busy(
      suspects.map(({ client }) => pidOf(client)),
      options,
    ).finally(() => {
      probing = false
    })
    for (const { client, bytes } of suspects) {
      // What answered meanwhile, or was given back, is not silent.
      if (!held.has(client) || read(client) !== bytes) continue
      if (atWork === 'unreachable' || (atWork !== 'unknown' && !atWork.has(pidOf(client)))) socketOf(client).destroy()
      else Object.assign(held.get(client) ?? {}, { since: performance.now() })
    }
  }
  const timer = setInterval(() => void look(), options.suspectAfterMs / 4)
  timer.unref()
  return () => clearInterval(timer)
}

/** Which of some server processes are at work, asked over a fresh connection. */
async function busy(pids: number[], options: SilenceOptions): Promise<ReadonlySet<number> | 'unknown' | 'unreachable'> {
  const client = new pg.Client({
    connectionString: options.uri,
    connectionTimeoutMillis: options.probeMs,
    query_timeout: options.probeMs,
    application_name: 'heddle probe',
  })
  client.on('error', () => {})
  try {
    await client.connect()
    if (!options.direct) {
      await client.query('select 1')
      return 'unknown'
    }
    const { rows } = await client.query(`select pid from pg_stat_activity where pid = any($1) and state = 'active'`, [
      pids,
    ])
    return new Set(rows.map(({ pid }: { pid: number }) => pid))
  } catch (error) {
    // A server that says no is there.
    return (error as { severity?: unknown }).severity === undefined ? 'unreachable' : 'unknown'
  } finally {
    const farewell = setTimeout(() => socketOf(client).destroy(), 500)
    void client
      .end()
      .catch(() => {})
      .finally(() => clearTimeout(farewell))
  }
}

const socketOf = (client: pg.ClientBase): Socket =>
  (client as unknown as { connection: { stream: Socket } }).connection.stream
const read = (client: pg.ClientBase): number => socketOf(client).bytesRead ?? 0
const pidOf = (client: pg.ClientBase): number => (client as unknown as { processID: number }).processID
