// The routes of webhook deliveries. In charge of telling a run without deliveries from no run.

import * as contract from '../contract/webhooks.ts'
import * as runs from '../db/runs.ts'
import * as webhooks from '../db/webhooks.ts'
import { ApiError } from '../errors.ts'
import type { HttpDeps } from './deps.ts'
import { on, type Route } from './route.ts'

/** Every route of the tag Webhooks. */
export function webhookRoutes({ db }: HttpDeps): Route[] {
  return [
    on(contract.listWebhooks, async ({ params, visible }) => {
      const deliveries = await webhooks.list(db, params.run_id, visible)
      if (deliveries.length > 0 || (await runs.get(db, null, params.run_id, visible)) !== undefined) return deliveries
      // Between the two it may have ended, and gone with its thread.
      const late = await webhooks.list(db, params.run_id, visible)
      if (late.length === 0) throw new ApiError('run_not_found', `There is no run ${params.run_id}.`)
      return late
    }),
    on(contract.replayWebhook, async ({ params, visible }) => {
      const delivery = await webhooks.replay(db, params.delivery_id, visible)
      if (delivery === undefined) {
        throw new ApiError('delivery_not_found', `There is no delivery ${params.delivery_id}, or it is too long ago.`)
      }
      return delivery
    }),
  ]
}
