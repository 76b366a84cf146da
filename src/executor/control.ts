// The control channel as the executor's two threads share it. In charge of the names that both must agree on, and of
// starting the watchdog; holds no state.

import type { AsyncLocalStorage } from 'node:async_hooks'
import { writeSync } from 'node:fs'
import { url as debuggerUrl } from 'node:inspector'
import { Worker } from 'node:worker_threads'
import type { Work } from './guest.ts'

/** Lines of JSON that an executor writes to file descriptor 4: what has to be said while its event loop is blocked, or in
 *  its last moment. All of it is optional. */
export type ControlReport =
  /** The event loop has not turned for so long: from one second on, each second, and once more when it is `over`. */
  | { type: 'blocked'; ms: number; over?: boolean }
  /** The process is about to end, and why. `run` or `call` names what it ends of; `none` says that it is none of them. */
  | { type: 'ending'; cause: string; run?: number; call?: number; none?: boolean }

/** What the server writes there: say who blocks the event loop, if anybody does, and end the process. */
export interface ControlRequest {
  type: 'end'
}

/** Where the channel is. */
export const CONTROL_FD = 4

/** How often the thread of the graphs shows that it turns, and how often the watchdog looks. */
export const BEAT_MS = 250

/** How the watchdog asks, through the debugger, what the thread of the graphs works for. */
export const CURRENT = {
  key: Symbol.for('heddle.current'),
  expression: "globalThis[Symbol.for('heddle.current')]?.()",
}

/** Starts the watchdog; `watch` is called once the graphs are loaded, because loading may take its time. */
export function startWatchdog(current: AsyncLocalStorage<Work>): { watch(): void } {
  const beat = new Int32Array(new SharedArrayBuffer(4))
  Object.defineProperty(globalThis, CURRENT.key, { value: () => current.getStore() })
  // Nothing that the environment preloads, and no more memory than it needs.
  const watchdog = new Worker(new URL('./watchdog.js', import.meta.url), {
    workerData: { beat },
    execArgv: [],
    env: {},
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 },
  })
  // Without it, the server still ends an executor that does not stop; it only knows less about it.
  watchdog.on('error', () => {})
  watchdog.unref()
  return {
    watch: () => {
      // Whoever stands at a breakpoint does not block.
      if (debuggerUrl() !== undefined) return
      setInterval(() => Atomics.add(beat, 0, 1), BEAT_MS).unref()
      Atomics.add(beat, 0, 1)
    },
  }
}

/** Tells the server, in the process's last moment, what it ends of. */
export function lastWords(work: Work | undefined, cause: string): void {
  const words: ControlReport = { type: 'ending', cause, ...work }
  try {
    writeSync(CONTROL_FD, `${JSON.stringify(words)}\n`)
  } catch {
    // The server is gone, or gave no such channel.
  }
}
