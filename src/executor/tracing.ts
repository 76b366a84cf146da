// Traces to LangSmith. LangChain sends them by itself where the environment asks for it; this is in charge of a run's own
// project and example, of its feedback urls, and of a slow or absent LangSmith never holding a run up.

import type * as Manager from '@langchain/core/callbacks/manager'
import { messageOf } from '../errors.ts'
import type { LangChain } from './langchain.ts'
import type { Job } from './protocol.ts'

/** How long the end of a run may wait for its feedback urls, and the end of the executor for the last traces. */
const FEEDBACK_WITHIN = 5_000
const FLUSH_WITHIN = 2_000

/** What tracing adds to a run. */
export interface RunTracing {
  /** Handlers that the graph is to be run with. */
  callbacks: unknown[]
  /** Resolves with the urls by feedback key as JSON; undefined where none were asked for or to be had. */
  feedback(): Promise<string | undefined>
}

export interface Tracing {
  of(job: Job, langchain: LangChain): Promise<RunTracing>
  /** Resolves when what was traced has been sent, or after a moment. */
  flush(): Promise<void>
}

/** LangChain's tracer, with its client, as far as it is needed. */
interface Tracer {
  name: string
  client: {
    /** Private to the library, which sets it where callbacks are awaited: a run would then end only once LangSmith has answered. */
    blockOnRootRunFinalization?: boolean
    createPresignedFeedbackToken(runId: string, key: string): Promise<{ url: string }>
    awaitPendingTraceBatches(): Promise<unknown>
  }
}
type TracerClass = new (fields: { projectName?: string; exampleId?: string; client: Tracer['client'] }) => Tracer

/** Tracing for all runs of an executor; `log` is told what went wrong on its side. */
export function createTracing(log: (text: string) => void): Tracing {
  const clients = new Set<Tracer['client']>()
  const managers = new Map<LangChain, Promise<typeof Manager>>()
  // LangChain itself says whether the environment asks for traces.
  const tracerOf = async (langchain: LangChain): Promise<Tracer | undefined> => {
    const manager = managers.get(langchain) ?? langchain.module<typeof Manager>('@langchain/core/callbacks/manager')
    managers.set(langchain, manager)
    const handlers = (await manager).CallbackManager.configure()?.handlers ?? []
    return handlers.find(({ name }) => name === 'langchain_tracer') as unknown as Tracer | undefined
  }
  return {
    async of({ run_id, args }, langchain) {
      const tracer = await tracerOf(langchain)
      if (!tracer) return { callbacks: [], feedback: async () => undefined }
      const { client } = tracer
      client.blockOnRootRunFinalization = false
      clients.add(client)
      const { project_name, example_id } = args.langsmith_tracer ?? {}
      const keys = args.feedback_keys ?? []
      // Asked for now, so that they are there when the run ends.
      const urls = keys.length > 0 ? urlsOf(client, run_id, keys) : undefined
      urls?.catch((error: unknown) => log(`LangSmith gave no feedback urls for run ${run_id}: ${messageOf(error)}`))
      const own = project_name !== undefined || example_id !== undefined
      return {
        callbacks: own ? [ownTracer(tracer, project_name, example_id)] : [],
        feedback: async () =>
          urls &&
          within(
            FEEDBACK_WITHIN,
            urls.catch(() => undefined),
          ),
      }
    },
    async flush() {
      await within(FLUSH_WITHIN, Promise.allSettled([...clients].map((client) => client.awaitPendingTraceBatches())))
    },
  }
}

function ownTracer(tracer: Tracer, projectName: string | undefined, exampleId: string | undefined): Tracer {
  return new (tracer.constructor as TracerClass)({
    client: tracer.client,
    ...(projectName !== undefined && { projectName }),
    ...(exampleId !== undefined && { exampleId }),
  })
}

async function urlsOf(client: Tracer['client'], runId: string, keys: readonly string[]): Promise<string> {
  const token = async (key: string) => [key, (await client.createPresignedFeedbackToken(runId, key)).url] as const
  return JSON.stringify(Object.fromEntries(await Promise.all([...new Set(keys)].map(token))))
}

async function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}
