// The routes of a thread's state: now, at a checkpoint, over time, and its change. In charge of what a thread without a
// graph answers; states come as text from the executor and are passed on unread.

import type { CheckpointRef } from '../contract/common.ts'
import * as contract from '../contract/state.ts'
import type { Sql } from '../db/sql.ts'
import * as state from '../db/state.ts'
import { ApiError } from '../errors.ts'
import { configOf, graphOf, updateState } from '../graph/state.ts'
import type { HttpDeps } from './deps.ts'
import { on, type Route, rawJson } from './route.ts'

/** Every route of a thread's state. */
export function stateRoutes(deps: HttpDeps): Route[] {
  const { db } = deps
  return [
    on(contract.getState, ({ params, query, visible }) => read(deps, params.thread_id, query, visible)),
    on(contract.getStateAt, ({ params, query, visible }) =>
      read(deps, params.thread_id, { ...query, checkpoint: { checkpoint_id: params.checkpoint_id } }, visible),
    ),
    on(contract.postStateAt, ({ params, body, visible }) => read(deps, params.thread_id, body, visible)),
    on(contract.getHistory, ({ params, query, visible }) => history(deps, params.thread_id, query, visible)),
    on(contract.searchHistory, ({ params, body, visible }) => history(deps, params.thread_id, body, visible)),
    on(contract.updateState, async ({ params, body, visible }) => {
      const { values, as_node, checkpoint } = body
      const update = { values, ...(as_node !== undefined && { as_node }) }
      const { thread_id } = params
      const made = await updateState(deps, { thread_id, checkpoint, supersteps: [{ updates: [update] }], visible })
      const named = {
        thread_id,
        checkpoint_ns: made.checkpoint_ns ?? '',
        checkpoint_id: made.checkpoint_id ?? null,
        checkpoint_map: made.checkpoint_map ?? null,
      }
      // Older clients read `configurable`.
      return { checkpoint: named, configurable: named, checkpoint_id: named.checkpoint_id }
    }),
    on(contract.patchState, async ({ params, body, visible }) => {
      await db.tx(async (tx) => {
        await state.lock(tx, params.thread_id, visible)
        await state.patchMetadata(tx, params.thread_id, body.metadata)
      })
    }),
  ]
}

interface Reading {
  checkpoint?: CheckpointRef | undefined
  subgraphs: boolean
  select?: string[] | undefined
}

async function read({ db, executor }: HttpDeps, threadId: string, wanted: Reading, visible: Sql) {
  const subject = await state.subject(db, threadId, visible)
  const graph_id = graphOf(subject.metadata)
  const { checkpoint, subgraphs, select } = wanted
  const found =
    graph_id === undefined
      ? null
      : await executor.call('state.get', {
          graph_id,
          thread_id: threadId,
          config: configOf(subject),
          subgraphs,
          ...(checkpoint && { checkpoint }),
          ...(select && { select }),
        })
  if (found) return rawJson(found.text)
  if (checkpoint?.checkpoint_id !== undefined) {
    throw new ApiError('checkpoint_not_found', `The thread has no checkpoint ${checkpoint.checkpoint_id}.`)
  }
  return stateless(threadId, checkpoint?.checkpoint_ns ?? '', select)
}

async function history(
  { db, executor }: HttpDeps,
  threadId: string,
  wanted: Partial<contract.HistorySearch> & { limit: number },
  visible: Sql,
) {
  const subject = await state.subject(db, threadId, visible)
  const graph_id = graphOf(subject.metadata)
  if (graph_id === undefined) return []
  const { limit, before, metadata, checkpoint, select } = wanted
  const found = await executor.call('state.history', {
    graph_id,
    thread_id: threadId,
    config: configOf(subject),
    limit,
    ...(before && { before }),
    ...(metadata && { metadata }),
    ...(checkpoint && { checkpoint }),
    ...(select && { select }),
  })
  return rawJson(found.text)
}

/** The state of a thread on which nothing has run. */
function stateless(thread_id: string, checkpoint_ns: string, select?: readonly string[]) {
  const whole = {
    values: {},
    next: [],
    tasks: [],
    checkpoint: { thread_id, checkpoint_ns, checkpoint_id: null },
    metadata: {},
    created_at: null,
    parent_checkpoint: null,
    interrupts: [],
  }
  if (!select) return whole
  const fields = select.map((field) => field.replace(/^values\..*/s, 'values'))
  return Object.fromEntries(Object.entries(whole).filter(([field]) => fields.includes(field)))
}
