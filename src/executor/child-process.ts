// The executor that runs graphs in a child process. In charge of the child's life: start, restart after a crash, exchange on
// reload, and its end; must never let a dead child leave a run or a call without an answer.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { ApiError } from '../errors.ts'
import type { Observe } from '../observe.ts'
import { createControl } from './control-host.ts'
import type { Executor, Storage } from './executor.ts'
import { createHost, type Host, type Instance } from './host.ts'
import { createStreamLink } from './link.ts'
import { createPool, type Ends } from './pool.ts'
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
  /** How long an aborted run may take to stop, in milliseconds; then its process is ended. */
  abortGrace?: number
  /** How long a process may block its event loop, in milliseconds; 0 for ever. */
  stallMs?: number
  /** How many processes share the runs. */
  size?: number
}

/** How many runs that may have brought a process down get one of their own at once. */
const QUARANTINE = 4

/** An executor whose graphs run in child processes of their own. Nothing is started before `start()`. */
export function createChildExecutor(options: ChildExecutorOptions): Executor {
  return createPool('child', {
    observe: options.observe,
    size: options.size ?? 1,
    quarantine: QUARANTINE,
    open: (ends) => openChild(options, ends),
  })
}

const SCRIPT = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../dist/executor/child.js' : './child.js', import.meta.url),
)

/** The child closes what it has open and sends its last traces first. */
const KILL_AFTER = 3_000
/** What a process said before its end may arrive after it; a grandchild may hold its output open for ever. */
const LAST_WORDS_WITHIN = 200

function openChild(options: ChildExecutorOptions, ends: Ends): Instance {
  const heap = options.memoryMb === undefined ? [] : [`--max-old-space-size=${options.memoryMb}`]
  const child = spawn(process.execPath, [...heap, SCRIPT], {
    cwd: options.projectDir,
    env: { ...options.env, LANGCHAIN_CALLBACKS_BACKGROUND: 'false' },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
  })
  const isOutOfMemory = report(child, options.observe)
  const exited = exitOf(child)
  const link = createStreamLink<HostMessage, GuestMessage>(child.stdio[3] as Duplex)
  const host: Host = createHost(link, {
    graphs: options.graphs,
    projectDir: options.projectDir,
    storage: options.storage,
    log: (text) => options.observe({ kind: 'executor_output', stream: 'stderr', text }),
    lost: ends.lost,
    // A child whose pipe is gone cannot be of use any more, whatever it is still doing.
    cause: async (error) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER)
      const exit = await exited
      clearTimeout(timer)
      const ending = control.ending()
      if (ending) return ending
      if (isOutOfMemory()) return { cause: `ran out of memory${limit(options.memoryMb)}` }
      // That the pipe broke says nothing; that what came through it was malformed does.
      const says = error !== undefined && !('errno' in error)
      return { cause: says ? `${exit} (${error.message})` : exit }
    },
    closed: ends.closed,
    hung: () => {
      ends.lost()
      control.end('did not stop a run in time')
    },
    ...(options.abortGrace === undefined ? {} : { abortGrace: options.abortGrace }),
  })
  const control = createControl(child, {
    ...options,
    graphIds: () => host.graphIds(),
    stalled: ends.lost,
  })
  return {
    host,
    pid: child.pid ?? null,
    end: async () => {
      host.close()
      control.close()
      const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER)
      await exited
      clearTimeout(timer)
    },
  }
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.on('error', (error) => resolve(`could not be started: ${error.message}`))
    child.on('exit', (code, signal) => {
      const cause = signal ? `exited with signal ${signal}` : `exited with code ${code}`
      const timer = setTimeout(() => resolve(cause), LAST_WORDS_WITHIN)
      child.on('close', () => {
        clearTimeout(timer)
        resolve(cause)
      })
    })
  })
}

const limit = (memoryMb: number | undefined): string =>
  memoryMb === undefined ? '' : ` (HEDDLE_EXECUTOR_MEMORY_MB is ${memoryMb})`

/** Passes on what the child prints; the answer says whether that was V8's word for a heap that is full. */
function report(child: ChildProcess, observe: Observe): () => boolean {
  let isOutOfMemory = false
  for (const stream of ['stdout', 'stderr'] as const) {
    const input = child[stream]
    if (!input) throw new ApiError('internal')
    createInterface({ input }).on('line', (text) => {
      isOutOfMemory ||= stream === 'stderr' && text.includes('JavaScript heap out of memory')
      observe({ kind: 'executor_output', stream, text })
    })
  }
  return () => isOutOfMemory
}
