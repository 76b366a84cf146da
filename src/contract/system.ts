// What the API says of the server itself: is it well, what is it, what does it offer.

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'

export const ok = endpoint({
  method: 'GET',
  path: '/ok',
  tag: 'System',
  summary: 'Say whether the server can answer',
  description:
    'With `check_db` the database is asked too. 503 when it does not answer within five seconds, and while the server shuts down: new work belongs elsewhere then. A bus that is down is only told of, because the server goes on without it.',
  query: z.object({ check_db: c.flag(false) }),
  reply: z.object({
    ok: z.boolean(),
    services: z.object({ database: z.literal('up'), bus: z.enum(['up', 'down']) }).optional(),
  }),
  errors: ['database_unavailable', 'shutting_down'],
})

export const info = endpoint({
  method: 'GET',
  path: '/info',
  tag: 'System',
  summary: 'Say what the server is and what it offers',
  reply: z.object({
    version: z.string(),
    langgraph_js_version: z.string(),
    context: z.literal('js'),
    flags: z.record(z.string(), z.boolean()),
    metadata: c.object,
  }),
})
export type Info = z.output<typeof info.reply>

export const docs = endpoint({
  method: 'GET',
  path: '/docs',
  tag: 'System',
  summary: 'Show this API as a page',
  reply: 'file',
})

export const openapi = endpoint({
  method: 'GET',
  path: '/openapi.json',
  tag: 'System',
  summary: 'Give this API as an OpenAPI document',
  reply: z.looseObject({ openapi: z.string() }),
})

export const truncation = z.object({
  runs: c.or(z.boolean(), false),
  threads: c.or(z.boolean(), false),
  assistants: c.or(z.boolean(), false),
  checkpointer: c.or(z.boolean(), false),
  store: c.or(z.boolean(), false),
})
export type Truncation = z.output<typeof truncation>

export const truncate = endpoint({
  method: 'POST',
  path: '/internal/truncate',
  tag: 'System',
  summary: 'Empty parts of the database (development only)',
  body: truncation,
  reply: z.object({ ok: z.boolean() }),
})
