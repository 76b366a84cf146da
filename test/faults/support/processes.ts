// The product as processes: `heddle start` from the build, each with a proxy of its own before each of its servers. In charge
// of starting and ending them and of finding their executors; what is done to them is decided elsewhere.

import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { freePort } from '../../../scripts/servers.mjs'
import { heddle, type Running } from '../../support/cli.ts'
import { until } from '../../support/until.ts'
import { type FaultyProxy, startFaultyProxy } from './proxy.ts'

export type Role = 'api' | 'worker' | 'all'

/** A place for one process: the process may die and be started again, its address and proxies stay. */
export interface Member {
  readonly name: string
  readonly role: Role
  /** Of an api. */
  readonly url: string
  readonly postgres: FaultyProxy
  /** Absent where the cluster has no Redis. */
  readonly redis: FaultyProxy | undefined
  /** The process, if it is up. */
  pid(): number | undefined
  /** What the present process has printed; of one that has ended, all it printed. */
  output(): string
  /** Process ids of the executors it has now. */
  executors(): number[]
  /** Starts a process; resolves when it serves, or works. `env` is for this one only. */
  start(env?: Record<string, string>): Promise<void>
  /** Sends a signal to the process alone, or to its executors as well. */
  signal(signal: NodeJS.Signals, options?: { executors: boolean }): void
  /** Ends it and resolves when it is gone, with its exit code (null after a signal). */
  stop(signal?: NodeJS.Signals): Promise<number | null>
  /** Resolves when the present process is gone, however that comes. */
  gone(): Promise<number | null>
  close(): Promise<void>
}

export interface MemberOptions {
  name: string
  role: Role
  databaseUri: string
  redisUri?: string | undefined
  /** langgraph.json. */
  config: string
  env: Record<string, string>
}

const CONFIG = fileURLToPath(new URL('graphs/langgraph.json', import.meta.url))

/** The project that the harness serves: the graph `steps`. */
export const stepsConfig = CONFIG

/** Makes a member; nothing runs until it is started. */
export async function createMember(options: MemberOptions): Promise<Member> {
  const { name, role } = options
  const postgres = await startFaultyProxy(options.databaseUri)
  const redis = options.redisUri === undefined ? undefined : await startFaultyProxy(options.redisUri)
  const port = await freePort()
  let running: Running | undefined
  const isUp = () => running !== undefined && running.process.exitCode === null && running.process.signalCode === null
  const pid = () => (isUp() ? running?.process.pid : undefined)
  const url = `http://127.0.0.1:${port}`

  async function stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (running === undefined) return null
    // One that is stopped (SIGSTOP) hears SIGTERM only when it goes on.
    if (isUp()) running.process.kill('SIGCONT')
    return (await running.stop(signal)).code
  }

  return {
    name,
    role,
    url,
    postgres,
    redis,
    pid,
    output: () => running?.output() ?? '',
    executors: () => childrenOf(pid()),
    async start(env = {}) {
      running = heddle(
        ['start', '--config', options.config, '--host', '127.0.0.1', '--port', `${port}`, '--role', role],
        {
          env: {
            DATABASE_URI: postgres.uri,
            ...(redis && { REDIS_URI: redis.uri }),
            LOG_JSON: 'true',
            ...options.env,
            ...env,
          },
        },
      )
      const mine = running
      await until(
        `${name} is up`,
        async () => {
          if (mine.process.exitCode !== null || mine.process.signalCode !== null)
            throw new Error(`${name} ended: ${mine.output().slice(-2_000)}`)
          if (role === 'worker') return /"kind":"worker_started"/.test(mine.output())
          return fetch(`${url}/ok`, { signal: AbortSignal.timeout(1_000) }).then(
            ({ ok }) => ok,
            () => false,
          )
        },
        60_000,
      )
    },
    signal(signal, { executors } = { executors: false }) {
      const own = pid()
      for (const target of [...(executors ? childrenOf(own) : []), ...(own === undefined ? [] : [own])]) {
        send(target, signal)
      }
    },
    stop,
    async gone() {
      return running === undefined ? null : (await running.ended).code
    },
    async close() {
      await stop('SIGKILL')
      await postgres.close()
      await redis?.close()
    },
  }
}

/** Sends a signal to a process that may be gone already. */
export function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** The processes whose parent is this one. */
function childrenOf(parent: number | undefined): number[] {
  if (parent === undefined) return []
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      // The name of the program, in brackets, may hold anything.
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent ? [Number(name)] : []
    } catch {
      return []
    }
  })
}
