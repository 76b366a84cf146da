// The threads' routes, without those of their state (state.ts) and runs. In charge of nothing but joining contract and
// statements.

import * as contract from '../contract/threads.ts'
import * as retention from '../db/retention.ts'
import * as threads from '../db/threads.ts'
import { createWithState } from '../graph/state.ts'
import { newId } from '../ids.ts'
import type { HttpDeps } from './deps.ts'
import { pageHeaders } from './page.ts'
import { empty, on, type Route, reply } from './route.ts'

/** Every route of threads that is neither of their state nor of their runs. */
export function threadRoutes(deps: HttpDeps): Route[] {
  const { db, config } = deps
  return [
    on(contract.createThread, ({ body, visible }) => {
      const { thread_id = newId(), metadata, ttl = config.threadTtl, if_exists, supersteps } = body
      const row = { thread_id, metadata, ttl, isNew: body.thread_id === undefined }
      return supersteps?.length
        ? createWithState(deps, row, if_exists, supersteps, visible)
        : threads.create(db, row, if_exists, visible)
    }),
    on(contract.searchThreads, async ({ body, visible }) => {
      const { rows, total } = await threads.search(db, body, body, visible)
      return reply(rows, { headers: pageHeaders(total, body, rows) })
    }),
    on(contract.countThreads, ({ body, visible }) => threads.count(db, body, visible)),
    on(contract.pruneThreads, async ({ body, visible }) => ({
      pruned_count: await retention.prune(db, body.thread_ids, body.strategy, visible),
    })),
    on(contract.getThreadStorage, ({ params, visible }) => retention.measure(db, params.thread_id, visible)),
    on(contract.getThread, ({ params, query, visible }) =>
      threads.get(db, params.thread_id, visible, { ttl: query.include?.includes('ttl') ?? false }),
    ),
    on(contract.patchThread, async ({ params, body, headers, visible }) => {
      const thread = await threads.update(db, params.thread_id, body, visible)
      const minimal = /(^|[,;\s])return\s*=\s*minimal\b/i.test(headers.get('prefer') ?? '')
      return minimal ? empty() : thread
    }),
    on(contract.deleteThread, async ({ params, visible }) => {
      await threads.remove(db, params.thread_id, visible)
      return {}
    }),
    on(contract.copyThread, ({ params, visible }) => threads.copy(db, params.thread_id, visible, config.threadTtl)),
  ]
}
