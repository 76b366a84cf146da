// The assistants' routes. In charge of what needs both the database and the graphs; statements and graphs do the work.

import * as contract from '../contract/assistants.ts'
import * as assistants from '../db/assistants.ts'
import * as crons from '../db/crons.ts'
import * as threads from '../db/threads.ts'
import { ApiError } from '../errors.ts'
import { newId } from '../ids.ts'
import { cancelRun } from '../runs/cancel.ts'
import type { HttpDeps } from './deps.ts'
import { pageHeaders } from './page.ts'
import { on, type Route, reply } from './route.ts'

/** Every route of the tag Assistants. */
export function assistantRoutes(deps: HttpDeps): Route[] {
  return [...storedRoutes(deps), ...versionRoutes(deps), ...graphRoutes(deps)]
}

function storedRoutes({ db, bus, registry }: HttpDeps): Route[] {
  return [
    on(contract.createAssistant, ({ body, visible }) => {
      const { if_exists, assistant_id = newId(), ...row } = body
      registry.graph(row.graph_id)
      return assistants.create(db, { assistant_id, ...row, description: row.description ?? null }, if_exists, visible)
    }),
    on(contract.searchAssistants, async ({ body, visible }) => {
      const { rows, total } = await assistants.search(db, body, body, visible)
      return reply(rows, { headers: pageHeaders(total, body, rows) })
    }),
    on(contract.countAssistants, ({ body, visible }) => assistants.count(db, body, visible)),
    on(contract.getAssistant, ({ params, visible }) =>
      assistants.get(db, registry.resolve(params.assistant_id), visible),
    ),
    on(contract.patchAssistant, ({ params, body, visible }) => {
      const id = registry.resolve(params.assistant_id)
      if (body.graph_id !== undefined) registry.graph(body.graph_id)
      return assistants.update(db, id, body, visible)
    }),
    on(contract.deleteAssistant, async ({ params, query, visible }) => {
      const id = registry.resolve(params.assistant_id)
      const reason = `The assistant ${id} was deleted.`
      await db.tx(async (tx) => {
        await assistants.remove(tx, id, visible)
        await crons.disableOfAssistant(tx, id, reason)
        if (query.delete_threads) await threads.removeOfAssistant(tx, id, visible)
      })
      for (const run of await assistants.activeRuns(db, id)) {
        await cancelRun({ db, bus }, { ...run, action: 'interrupt', reason, visible }).catch((error: unknown) => {
          // It ended by itself, or another caller's eyes are needed: the assistant is gone all the same.
          if (!(error instanceof ApiError)) throw error
        })
      }
      return {}
    }),
  ]
}

function versionRoutes({ db, registry }: HttpDeps): Route[] {
  return [
    on(contract.searchVersions, ({ params, body, visible }) =>
      assistants.versions(db, registry.resolve(params.assistant_id), body, visible),
    ),
    on(contract.setLatest, ({ params, query, body, visible }) => {
      const version = body.version ?? query.version
      if (version === undefined) throw new ApiError('validation_failed', 'body.version: must be a version number.')
      return assistants.setLatest(db, registry.resolve(params.assistant_id), version, visible)
    }),
  ]
}

function graphRoutes({ db, executor, registry }: HttpDeps): Route[] {
  const subject = async (idOrGraphId: string, visible: Parameters<typeof assistants.get>[2]) => {
    const { graph_id, config, context } = await assistants.get(db, registry.resolve(idOrGraphId), visible)
    return { graph_id, config: context === null ? config : { ...config, context } }
  }
  return [
    on(contract.getGraph, async ({ params, query, visible }) => {
      const graph = await subject(params.assistant_id, visible)
      return executor.call('graph.draw', { ...graph, xray: query.xray }) as Promise<contract.GraphDrawing>
    }),
    on(contract.getSchemas, async ({ params, visible }) =>
      executor.call('graph.schemas', await subject(params.assistant_id, visible)),
    ),
    on(contract.getSubgraphs, async ({ params, query, visible }) => {
      const graph = await subject(params.assistant_id, visible)
      return executor.call('graph.subgraphs', { ...graph, recurse: query.recurse })
    }),
    on(contract.getSubgraphsAt, async ({ params, query, visible }) => {
      const graph = await subject(params.assistant_id, visible)
      return executor.call('graph.subgraphs', { ...graph, recurse: query.recurse, namespace: params.namespace })
    }),
  ]
}
