// The endpoints of runs on a thread, and of cancelling many runs.

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'
import { queryNamespaces, queryStreamModes, run, runFields, runStatus, statefulRun } from './runs.ts'
import { threadParams } from './threads.ts'

export const runParams = threadParams.extend({ run_id: c.id })

export const runHeaders = {
  'Content-Location': 'The path of the run.',
  Location: 'The path to go on from, should the connection break.',
}
export const idempotency = {
  'Idempotency-Key': 'The same key and body gives the same run again; another body is refused.',
}
export const lastEventId = {
  'Last-Event-ID': 'Only events after this one are sent; `-1` sends all that are kept.',
}
export const createErrors = [
  'assistant_not_found',
  'graph_not_found',
  'thread_not_found',
  'checkpoint_not_found',
  'thread_busy',
  'idempotency_conflict',
  'shutting_down',
] as const

const creating = {
  method: 'POST',
  tag: 'Runs',
  permission: 'threads:create_run',
  params: threadParams,
  body: statefulRun,
  headers: idempotency,
  errors: createErrors,
} as const

const namespaceQuery = z.object({ namespace: queryNamespaces })

/** What to follow a run with. */
export const joinQuery = z.object({
  stream_mode: queryStreamModes,
  cancel_on_disconnect: c.flag(false),
  namespace: queryNamespaces,
  checkpoint_id: c.id.optional(),
})
export type JoinQuery = z.output<typeof joinQuery>

export const listRuns = endpoint({
  method: 'GET',
  path: '/threads/{thread_id}/runs',
  tag: 'Runs',
  summary: "List a thread's runs, newest first",
  permission: 'threads:read',
  params: threadParams,
  query: z.object({
    limit: c.queryLimit(10),
    offset: c.queryOffset,
    status: runStatus.optional(),
    select: c.list(runFields, { comma: true }),
  }),
  reply: z.array(run.partial()),
  errors: ['thread_not_found'],
})

export const createRun = endpoint({
  ...creating,
  path: '/threads/{thread_id}/runs',
  summary: 'Start a run and answer at once',
  reply: run,
  replyHeaders: { 'Content-Location': runHeaders['Content-Location'] },
})

export const streamRun = endpoint({
  ...creating,
  path: '/threads/{thread_id}/runs/stream',
  summary: 'Start a run and stream its events',
  query: namespaceQuery,
  reply: 'sse',
  replyHeaders: runHeaders,
})

export const waitRun = endpoint({
  ...creating,
  path: '/threads/{thread_id}/runs/wait',
  summary: 'Start a run and wait for its values',
  reply: z.unknown(),
  replyHeaders: runHeaders,
})

export const getRun = endpoint({
  method: 'GET',
  path: '/threads/{thread_id}/runs/{run_id}',
  tag: 'Runs',
  summary: 'Get a run',
  permission: 'threads:read',
  params: runParams,
  reply: run,
  errors: ['run_not_found'],
})

export const deleteRun = endpoint({
  method: 'DELETE',
  path: '/threads/{thread_id}/runs/{run_id}',
  tag: 'Runs',
  summary: 'Delete a run that has ended',
  permission: 'threads:delete',
  params: runParams,
  reply: z.object({}),
  errors: ['run_not_found', 'run_active'],
})

export const joinRun = endpoint({
  method: 'GET',
  path: '/threads/{thread_id}/runs/{run_id}/join',
  tag: 'Runs',
  summary: "Wait for a run's values",
  permission: 'threads:read',
  params: runParams,
  query: z.object({ cancel_on_disconnect: c.flag(false) }),
  reply: z.unknown(),
  replyHeaders: runHeaders,
  errors: ['run_not_found'],
})

export const joinRunStream = endpoint({
  method: 'GET',
  path: '/threads/{thread_id}/runs/{run_id}/stream',
  tag: 'Runs',
  summary: "Follow a run's events",
  permission: 'threads:read',
  params: runParams,
  query: joinQuery,
  headers: lastEventId,
  reply: 'sse',
  replyHeaders: { Location: runHeaders.Location },
  errors: ['run_not_found'],
})

const cancelAction = z.enum(['interrupt', 'rollback']).optional().default('interrupt')

export const cancelRun = endpoint({
  method: 'POST',
  path: '/threads/{thread_id}/runs/{run_id}/cancel',
  tag: 'Runs',
  summary: 'Cancel a run',
  permission: 'threads:update',
  params: runParams,
  query: z
    .object({ wait: c.flag(false), action: cancelAction, reason: z.enum(['taken']).optional() })
    .refine(({ action, reason }) => !(reason && action === 'rollback'), {
      path: ['reason'],
      error: 'can only be given with action=interrupt',
    }),
  reply: z.object({}),
  errors: ['run_not_found', 'run_not_cancellable'],
})

export const cancelBody = z.union(
  [
    z.object({ thread_id: c.id, run_ids: z.array(c.id).min(1).max(10_000) }),
    z.object({ status: z.enum(['pending', 'running', 'all']) }),
  ],
  { error: 'must have either thread_id and run_ids, or status' },
)
export type CancelBody = z.output<typeof cancelBody>

export const cancelRuns = endpoint({
  method: 'POST',
  path: '/runs/cancel',
  tag: 'Runs',
  summary: 'Cancel many runs',
  description: 'Either `thread_id` with `run_ids`, or `status`.',
  permission: 'threads:update',
  query: z.object({ action: cancelAction }),
  body: cancelBody,
  reply: 'none',
  errors: ['run_not_found'],
})
