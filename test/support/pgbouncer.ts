// A PgBouncer in transaction mode before the tests' Postgres. In charge of its start and stop, and of saying where there is none.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { freePort } from '../../scripts/servers.mjs'
import { until } from './until.ts'

const keeper = fileURLToPath(new URL('../../scripts/keeper.mjs', import.meta.url))
const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin', '/usr/local/bin']

/** Its binary, where it is installed. */
export const pgbouncerBinary: string | undefined = folders
  .map((folder) => join(folder, 'pgbouncer'))
  .find((path) => existsSync(path))

export interface PgBouncer {
  uri: string
  stop(): Promise<void>
}

/** Starts one before the database of a URI, with at most `poolSize` connections of its own to it. */
export async function startPgBouncer(binary: string, databaseUri: string, poolSize: number): Promise<PgBouncer> {
  const { hostname, port, pathname, username } = new URL(databaseUri)
  const folder = mkdtempSync(join(tmpdir(), 'heddle-pgbouncer-'))
  chmodSync(folder, 0o755)
  const own = await freePort()
  const name = pathname.slice(1)
  const settings = [
    '[databases]',
    `${name} = host=${hostname} port=${port} dbname=${name} user=${username}`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${own}`,
    'unix_socket_dir =',
    'auth_type = any',
    'pool_mode = transaction',
    `default_pool_size = ${poolSize}`,
    'max_client_conn = 200',
  ]
  writeFileSync(join(folder, 'pgbouncer.ini'), `${settings.join('\n')}\n`)
  // It refuses to run as root.
  const user = process.getuid?.() === 0 ? ['-u', 'nobody'] : []
  const child = spawn(process.execPath, [keeper, folder, '{}', binary, '-q', ...user, join(folder, 'pgbouncer.ini')], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk))
  const gone = once(child, 'exit')
  const stop = async () => {
    child.stdin.end()
    await gone
  }
  const uri = `postgres://${username}@127.0.0.1:${own}/${name}`
  try {
    await until('PgBouncer answers', async () => {
      if (child.exitCode !== null) throw new Error(`PgBouncer ended: ${said}`)
      const client = new pg.Client({ connectionString: uri })
      return client
        .connect()
        .then(() => client.end())
        .then(
          () => true,
          () => false as const,
        )
    })
  } catch (error) {
    await stop()
    throw error
  }
  return { uri, stop }
}
