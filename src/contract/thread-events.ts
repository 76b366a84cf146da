// The endpoints of the thread protocol's events: over server-sent events, and over a WebSocket.

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'
import { threadParams } from './threads.ts'

const CHANNELS = [
  'values',
  'updates',
  'messages',
  'tools',
  'lifecycle',
  'input',
  'checkpoints',
  'tasks',
  'custom',
] as const

const channel = z.union([z.enum(CHANNELS), z.templateLiteral(['custom:', z.string().min(1)])], {
  error: `must be one of: ${CHANNELS.join(', ')}, or custom:<name>`,
})

/** What to hear of a thread. Namespaces stand for those below them, `depth` levels down. */
export const subscription = z
  .object({
    channels: z.array(channel).min(1),
    namespaces: c.maybe(z.array(z.array(z.string()))),
    depth: c.maybe(z.int().min(0)),
    since: c.maybe(z.int().min(0)),
  })
  .meta({ id: 'EventSubscription' })
export type EventSubscription = z.output<typeof subscription>

export const streamThreadEvents = endpoint({
  method: 'POST',
  path: '/threads/{thread_id}/stream/events',
  tag: 'Threads',
  summary: 'Subscribe to the events of a thread',
  description:
    'The thread protocol (v2) over server-sent events: what follows the event `since`, or everything that is kept, and then what happens, over all runs. The stream does not end by itself.',
  permission: 'threads:read',
  params: threadParams,
  body: subscription,
  reply: 'sse',
  errors: ['thread_not_found', 'shutting_down'],
})

export const openThreadSocket = endpoint({
  method: 'GET',
  path: '/threads/{thread_id}/stream/events',
  tag: 'Threads',
  summary: 'Open a WebSocket on a thread',
  description:
    'The thread protocol (v2): commands and their answers, and the events of what is subscribed to by `subscription.subscribe`. A connection that is refused once it is open is closed with 4000 plus the HTTP status.',
  permission: 'threads:read',
  params: threadParams,
  reply: 'socket',
  status: 101,
  errors: ['upgrade_required', 'shutting_down'],
})
