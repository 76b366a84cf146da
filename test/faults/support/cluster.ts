// Heddle as it runs in production, in small: a private Postgres and Redis, two api and two worker processes of the build, a
// witness ledger. In charge of putting it together and of leaving nothing behind.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { type Server, startPostgres, startRedis } from '../../../scripts/servers.mjs'
import { until } from '../../support/until.ts'
import { createLedger, type Ledger } from './ledger.ts'
import { createMember, type Member, type Role, stepsConfig } from './processes.ts'

export interface ClusterOptions {
  /** Members by name, in the order they start; two apis and two workers by default. */
  members?: Record<string, Role>
  /** Without it, Postgres carries the hints. */
  redis?: boolean
  /** For every process. */
  env?: Record<string, string>
  /** Another langgraph.json than that of the graph `steps`. */
  config?: string
}

export interface Cluster {
  readonly postgres: Server
  readonly redis: Server | undefined
  readonly ledger: Ledger
  /** The database itself, past every proxy. */
  readonly databaseUri: string
  readonly members: readonly Member[]
  readonly apis: readonly Member[]
  readonly workers: readonly Member[]
  member(name: string): Member
  /** Asks the database past every proxy; waits while it is down. */
  query<T = Record<string, unknown>>(text: string, values?: unknown[]): Promise<T[]>
  close(): Promise<void>
}

const FOUR: Record<string, Role> = { api1: 'api', api2: 'api', worker1: 'worker', worker2: 'worker' }

/** Starts everything. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const closing: (() => unknown)[] = []
  const close = async () => {
    for (const each of closing.splice(0).reverse()) await each()
  }
  try {
    const folder = mkdtempSync(join(tmpdir(), 'heddle-faults-'))
    closing.push(() => rmSync(folder, { recursive: true, force: true }))
    const ledger = createLedger(join(folder, 'ledger'))
    const [postgres, redis] = await Promise.all([
      startPostgres().then((server) => {
        closing.push(server.stop)
        return server
      }),
      options.redis === false
        ? undefined
        : startRedis().then((server) => {
            closing.push(server.stop)
            return server
          }),
    ])
    const members: Member[] = []
    for (const [name, role] of Object.entries(options.members ?? FOUR)) {
      const member = await createMember({
        name,
        role,
        databaseUri: postgres.uri,
        redisUri: redis?.uri,
        config: options.config ?? stepsConfig,
        // What a worker says tells when it works; what an api says of every request is only long.
        env: { LEDGER: ledger.path, LOG_LEVEL: role === 'worker' ? 'info' : 'warn', ...options.env },
      })
      closing.push(member.close)
      members.push(member)
      // The first one migrates; the others find it done.
      if (members.length === 1) await member.start()
    }
    await Promise.all(members.slice(1).map((member) => member.start()))
    return {
      postgres,
      redis,
      ledger,
      databaseUri: postgres.uri,
      members,
      apis: members.filter(({ role }) => role !== 'worker'),
      workers: members.filter(({ role }) => role !== 'api'),
      member(name) {
        const found = members.find((member) => member.name === name)
        if (found === undefined) throw new Error(`there is no member ${name}`)
        return found
      },
      query: (text, values) => ask(postgres.uri, text, values),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** One connection for one question: it may meet a restart, and is then asked again. */
async function ask<T>(uri: string, text: string, values: unknown[] = []): Promise<T[]> {
  const answer = await until(
    'the database answers',
    async () => {
      const client = new pg.Client({ connectionString: uri })
      client.on('error', () => {})
      try {
        await client.connect()
        // A script of several statements gives several results, and nobody asks for them.
        return { rows: (await client.query(text, values)).rows as T[] | undefined }
      } catch (error) {
        const { code = '' } = error as { code?: string }
        if (/^(08|57P|ECONN|EPIPE)/.test(code) || (error as Error).message.includes('Connection terminated')) return
        throw error
      } finally {
        await client.end().catch(() => {})
      }
    },
    30_000,
  )
  return answer.rows ?? []
}
