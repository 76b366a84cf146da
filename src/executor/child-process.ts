// The executor that runs graphs in a child process. In charge of the child's life: start, restart after a crash, exchange on
// reload, and its end; must never let a dead child leave a run or a call without an answer.

import type { Observe } from '../observe.ts'
import type { Executor, Storage } from './executor.ts'
import { createHost, type Host, type Instance } from './host.ts'
import { createStreamLink } from './link.ts'
import { createPool, type Ends } from './pool.ts'
import { startProcess } from './process.ts'
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

function openChild(options: ChildExecutorOptions, ends: Ends): Instance {
  const { observe } = options
  const child = startProcess({
    ...options,
    entry: 'child',
    output: (stream, text) => observe({ kind: 'executor_output', stream, text }),
    name: (pid) => `executor ${pid} (graphs: ${host.graphIds().join(', ') || 'none'})`,
    stalled: ends.lost,
  })
  const host: Host = createHost(createStreamLink<HostMessage, GuestMessage>(child.pipe), {
    graphs: options.graphs,
    projectDir: options.projectDir,
    storage: options.storage,
    log: (text) => observe({ kind: 'executor_output', stream: 'stderr', text }),
    lost: ends.lost,
    cause: child.ending,
    closed: ends.closed,
    hung: () => {
      ends.lost()
      child.stop('did not stop a run in time')
    },
    ...(options.abortGrace === undefined ? {} : { abortGrace: options.abortGrace }),
  })
  return {
    host,
    pid: child.pid,
    end: () => {
      host.close()
      return child.close()
    },
  }
}
