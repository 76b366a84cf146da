// The executor that runs graphs in a child process. In charge of the child's life: start, restart after a crash, exchange on
// reload, and its end; must never let a dead child leave a run or a call without an answer.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { ApiError } from '../errors.ts'
import type { Observe } from '../observe.ts'
import type { Executor, Storage } from './executor.ts'
import { createHost, type Host } from './host.ts'
import { createStreamLink } from './link.ts'
import { createPool } from './pool.ts'
import type { GraphSource, GuestMessage, HostMessage } from './protocol.ts'

export interface ChildExecutorOptions {
  graphs: GraphSource[]
  projectDir: string
  /** The whole environment of the child. */
  env: Record<string, string | undefined>
  storage: Storage
  observe: Observe
  /** Limit of the child's JavaScript heap, in MiB. */
  memoryMb?: number
  /** How long an aborted run may take to stop, in milliseconds. */
  abortGrace?: number
}

/** An executor whose graphs run in a child process of their own. Nothing is started before `start()`. */
export function createChildExecutor(options: ChildExecutorOptions): Executor {
  return createPool('child', {
    observe: options.observe,
    open: (closed) => openChild(options, closed),
  })
}

const SCRIPT = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../dist/executor/child.js' : './child.js', import.meta.url),
)

/** The child closes what it has open and sends its last traces first. */
const KILL_AFTER = 3_000

function openChild(options: ChildExecutorOptions, closed: (cause: string, runIds: string[]) => void) {
  const heap = options.memoryMb === undefined ? [] : [`--max-old-space-size=${options.memoryMb}`]
  const child = spawn(process.execPath, [...heap, SCRIPT], {
    cwd: options.projectDir,
    env: { ...options.env, LANGCHAIN_CALLBACKS_BACKGROUND: 'false' },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  })
  report(child, options.observe)
  const exited = exitOf(child)
  const link = createStreamLink<HostMessage, GuestMessage>(child.stdio[3] as Duplex)
  const host: Host = createHost(link, {
    graphs: options.graphs,
    projectDir: options.projectDir,
    storage: options.storage,
    log: (text) => options.observe({ kind: 'executor_output', stream: 'stderr', text }),
    // A child whose pipe is gone cannot be of use any more, whatever it is still doing.
    cause: async (error) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER)
      const cause = await exited
      clearTimeout(timer)
      return error === undefined ? cause : `${cause} (${error.message})`
    },
    closed,
    hung: () => child.kill('SIGKILL'),
    ...(options.abortGrace === undefined ? {} : { abortGrace: options.abortGrace }),
  })
  return {
    host,
    pid: child.pid ?? null,
    end: async () => {
      host.close()
      const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER)
      await exited
      clearTimeout(timer)
    },
  }
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.on('error', (error) => resolve(`could not be started: ${error.message}`))
    child.on('exit', (code, signal) => resolve(signal ? `exited with signal ${signal}` : `exited with code ${code}`))
  })
}

function report(child: ChildProcess, observe: Observe): void {
  for (const stream of ['stdout', 'stderr'] as const) {
    const input = child[stream]
    if (!input) throw new ApiError('internal')
    createInterface({ input }).on('line', (text) => observe({ kind: 'executor_output', stream, text }))
  }
}
