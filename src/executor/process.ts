// A child process for user code. In charge of its life: how it is started, how it is told to end, and what is known of why
// it ended; knows nothing of what runs in it.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { ApiError } from '../errors.ts'
import type { Observe } from '../observe.ts'
import { createControl } from './control-host.ts'
import type { Ending } from './host.ts'

export interface ProcessOptions {
  /** The entry: a file of this folder, without extension. */
  entry: string
  projectDir: string
  /** The whole environment. */
  env: Record<string, string | undefined>
  observe: Observe
  /** Limit of the JavaScript heap, in MiB. */
  memoryMb?: number
  /** How long the event loop may be blocked, in milliseconds; 0 or absent: for ever. */
  stallMs?: number
  /** Told each line that is printed. */
  output(stream: 'stdout' | 'stderr', text: string): void
  /** What the process is, for people. */
  name(pid: number | undefined): string
  /** The process is about to be ended because it is blocked. */
  stalled(): void
}

export interface UserProcess {
  pid: number | null
  /** Speaks with the entry. */
  pipe: Duplex
  /** What the process ended of, when it is gone. Asked once its pipe is gone, for `error` if that was no orderly end: then it is
   *  of no use any more, whatever it is still doing, and is ended after a few seconds. */
  ending(error?: Error): Promise<Ending>
  /** Has the process say who blocks it, if anybody does, and end itself. */
  stop(cause: string): void
  /** Ends it, at the latest after a few seconds. */
  close(): Promise<void>
}

/** The child closes what it has open and sends its last traces first. */
const KILL_AFTER = 3_000
/** What a process said before its end may arrive after it; a grandchild may hold its output open for ever. */
const LAST_WORDS_WITHIN = 200

/** Starts a process. */
export function startProcess(options: ProcessOptions): UserProcess {
  const { memoryMb } = options
  const heap = memoryMb === undefined ? [] : [`--max-old-space-size=${memoryMb}`]
  const child = spawn(process.execPath, [...heap, scriptOf(options.entry)], {
    cwd: options.projectDir,
    env: { ...options.env, LANGCHAIN_CALLBACKS_BACKGROUND: 'false' },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
  })
  const isOutOfMemory = report(child, options.output)
  const exited = exitOf(child)
  const control = createControl(child, options)
  const end = async () => {
    const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER)
    const exit = await exited
    clearTimeout(timer)
    return exit
  }
  return {
    pid: child.pid ?? null,
    pipe: child.stdio[3] as Duplex,
    stop: control.end,
    async ending(error) {
      const exit = await end()
      const ending = control.ending()
      if (ending) return ending
      if (isOutOfMemory()) return { cause: `ran out of memory${limit(memoryMb)}` }
      // That the pipe broke says nothing; that what came through it was malformed does.
      const says = error !== undefined && !('errno' in error)
      return { cause: says ? `${exit} (${error.message})` : exit }
    },
    async close() {
      control.close()
      await end()
    },
  }
}

const scriptOf = (entry: string): string =>
  fileURLToPath(
    new URL(import.meta.url.endsWith('.ts') ? `../../dist/executor/${entry}.js` : `./${entry}.js`, import.meta.url),
  )

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
function report(child: ChildProcess, output: ProcessOptions['output']): () => boolean {
  let isOutOfMemory = false
  for (const stream of ['stdout', 'stderr'] as const) {
    const input = child[stream]
    if (!input) throw new ApiError('internal')
    createInterface({ input }).on('line', (text) => {
      isOutOfMemory ||= stream === 'stderr' && text.includes('JavaScript heap out of memory')
      output(stream, text)
    })
  }
  return () => isOutOfMemory
}
