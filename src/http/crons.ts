// The routes of crons. In charge of nothing but joining contract, statements and what runs/crons.ts decides.

import * as contract from '../contract/crons.ts'
import * as crons from '../db/crons.ts'
import { changeCron, createCron } from '../runs/crons.ts'
import type { HttpDeps } from './deps.ts'
import { pageHeaders } from './page.ts'
import { on, type Route, reply } from './route.ts'

/** Every route of the tag Crons. */
export function cronRoutes(deps: HttpDeps): Route[] {
  const { db, bus, registry, config } = deps
  const making = { db, bus, registry, webhooks: config.disabled.includes('webhooks') ? undefined : config.webhooks }
  const named = <F extends { assistant_id?: string | undefined }>(filter: F): F =>
    filter.assistant_id === undefined ? filter : { ...filter, assistant_id: registry.resolve(filter.assistant_id) }
  return [
    on(contract.createThreadCron, ({ params, body, visible }) => createCron(making, params.thread_id, body, visible)),
    on(contract.createCron, ({ body, visible }) => createCron(making, null, body, visible)),
    on(contract.getCron, ({ params, visible }) => crons.get(db, params.cron_id, visible)),
    on(contract.patchCron, ({ params, body, visible }) => changeCron(making, params.cron_id, body, visible)),
    on(contract.deleteCron, async ({ params, visible }) => {
      await crons.remove(db, params.cron_id, visible)
      return {}
    }),
    on(contract.searchCrons, async ({ body, visible }) => {
      const { rows, total } = await crons.search(db, named(body), body, visible)
      return reply(rows, { headers: pageHeaders(total, body, rows) })
    }),
    on(contract.countCrons, ({ body, visible }) => crons.count(db, named(body), visible)),
  ]
}
