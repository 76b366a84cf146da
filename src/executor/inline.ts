// The executor that runs graphs in this very process, for programs that embed Heddle and for tests. It speaks the same
// protocol over an in-process link; must never be used where graph code is not trusted with the process.

import type { Observe } from '../observe.ts'
import type { Executor, Storage } from './executor.ts'
import { createGuest } from './guest.ts'
import { createHost, type Instance } from './host.ts'
import { createLinkPair } from './link.ts'
import { createImporter, type ImportFile } from './loader.ts'
import { createPool, type Ends } from './pool.ts'
import type { GraphSource, GuestMessage, HostMessage } from './protocol.ts'
import { createRuntime } from './runtime.ts'

export interface InlineExecutorOptions {
  /** Graphs with a `path`, or with a `value`: a compiled or uncompiled graph, a promise of one, or a factory. */
  graphs: GraphSource[]
  /** What makes vectors, if that is a value. */
  embed?: unknown
  storage: Storage
  observe: Observe
  projectDir?: string
  /** How long an aborted run may take to stop, in milliseconds. */
  abortGrace?: number
}

/** An executor in this process. `reload` reads a graph's own file anew, but not the modules it imports. */
export function createInlineExecutor(options: InlineExecutorOptions): Executor {
  // Otherwise concurrent `messages` streams lose tokens: handlers then run on one queue for the whole process.
  process.env.LANGCHAIN_CALLBACKS_BACKGROUND ??= 'false'
  const importer = createImporter()
  let loads = 0
  return createPool('inline', {
    observe: options.observe,
    size: 1,
    quarantine: 0,
    open: (ends) => openInline(options, importer, loads++, ends),
  })
}

function openInline(options: InlineExecutorOptions, importer: ImportFile, load: number, ends: Ends): Instance {
  const [hostLink, guestLink] = createLinkPair<HostMessage, GuestMessage>()
  const host = createHost(hostLink, {
    graphs: options.graphs,
    projectDir: options.projectDir ?? null,
    storage: options.storage,
    log: (text) => options.observe({ kind: 'executor_output', stream: 'stderr', text }),
    ...ends,
    cause: () => Promise.resolve({ cause: 'was closed', none: true }),
    // This process cannot be ended: the run is settled without its graph.
    hung: () => {},
    ...(options.abortGrace === undefined ? {} : { abortGrace: options.abortGrace }),
  })
  const values = new Map(
    options.graphs.filter((graph) => graph.value !== undefined).map((graph) => [graph.graph_id, graph.value]),
  )
  const log = (text: string) => options.observe({ kind: 'executor_output', stream: 'stderr', text })
  createGuest(
    guestLink,
    createRuntime({ values, embed: options.embed, importFile: (path) => importer(path, load), log }),
    {
      executor: `node ${process.version}`,
      pid: null,
      ended: () => {},
    },
  )
  return {
    host,
    pid: null,
    end: async () => host.close(),
  }
}
