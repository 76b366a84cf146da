// What the API says of webhook deliveries: what became of the webhooks that runs named. The option itself is in runs.ts.

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'

export const delivery = z
  .object({
    delivery_id: z.string().describe('The header `webhook-id` of every try.'),
    run_id: z.string(),
    thread_id: z.string(),
    url: z.string(),
    status: z.enum(['pending', 'delivered', 'failed']),
    attempts: z.number().int().describe('How often it was tried, since it was made or replayed.'),
    created_at: c.time,
    last_attempt_at: c.time.nullable(),
    next_attempt_at: c.time.nullable().describe('While it is pending: it is not tried before this.'),
    ended_at: c.time.nullable(),
    last_status: z.number().int().nullable().describe('The HTTP status of the last answer.'),
    last_error: z.string().nullable().describe('Why the last try failed.'),
  })
  .meta({ id: 'WebhookDelivery' })
export type Delivery = z.output<typeof delivery>

export const listWebhooks = endpoint({
  method: 'GET',
  path: '/runs/{run_id}/webhooks',
  tag: 'Webhooks',
  summary: "List the deliveries of a run's webhook",
  description: 'None before the run has ended, and where it named no webhook.',
  permission: 'threads:read',
  params: z.object({ run_id: c.id }),
  reply: z.array(delivery),
  errors: ['run_not_found'],
})

export const replayWebhook = endpoint({
  method: 'POST',
  path: '/webhooks/{delivery_id}/replay',
  tag: 'Webhooks',
  summary: 'Deliver a webhook once more',
  description: 'From its first try, with the same body and the same `webhook-id`, whatever became of it before.',
  permission: 'threads:update',
  params: z.object({ delivery_id: c.id }),
  reply: delivery,
  errors: ['delivery_not_found'],
})
