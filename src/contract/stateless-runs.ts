// The endpoints of runs without a thread: each gets one of its own, which goes with the run unless it is to be kept.

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'
import { queryNamespaces, run, statelessRun } from './runs.ts'
import { idempotency, joinQuery, lastEventId, runHeaders } from './thread-runs.ts'

const creating = {
  method: 'POST',
  tag: 'Stateless runs',
  permission: 'threads:create_run',
  body: statelessRun,
  headers: idempotency,
  errors: ['assistant_not_found', 'graph_not_found', 'idempotency_conflict', 'shutting_down'],
} as const

export const createStatelessRun = endpoint({
  ...creating,
  path: '/runs',
  summary: 'Start a run and answer at once',
  reply: run,
  replyHeaders: { 'Content-Location': runHeaders['Content-Location'] },
})

export const streamStatelessRun = endpoint({
  ...creating,
  path: '/runs/stream',
  summary: 'Start a run and stream its events',
  query: z.object({ namespace: queryNamespaces }),
  reply: 'sse',
  replyHeaders: runHeaders,
})

export const waitStatelessRun = endpoint({
  ...creating,
  path: '/runs/wait',
  summary: 'Start a run and wait for its values',
  reply: z.unknown(),
  replyHeaders: runHeaders,
})

export const createRunBatch = endpoint({
  ...creating,
  path: '/runs/batch',
  summary: 'Start many runs and answer at once',
  body: z.array(statelessRun).min(1).max(1000),
  reply: z.array(run),
})

export const joinStatelessRunStream = endpoint({
  method: 'GET',
  path: '/runs/{run_id}/stream',
  tag: 'Stateless runs',
  summary: "Follow a run's events",
  permission: 'threads:read',
  params: z.object({ run_id: c.id }),
  query: joinQuery,
  headers: lastEventId,
  reply: 'sse',
  replyHeaders: { Location: runHeaders.Location },
  errors: ['run_not_found'],
})
