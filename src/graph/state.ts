// Changing a thread's state from outside of a run. In charge of losing no change: the graph computes on what was read, and
// the result is stored only if nothing was stored meanwhile. The graph itself runs in the executor.

import * as checkpoints from '../db/checkpoints.ts'
import type { Db } from '../db/db.ts'
import type { Sql } from '../db/sql.ts'
import * as state from '../db/state.ts'
import * as threads from '../db/threads.ts'
import { ApiError } from '../errors.ts'
import type { Executor } from '../executor/executor.ts'
import type { CheckpointRef, HostCalls, StateConfig } from '../executor/protocol.ts'

type Supersteps = HostCalls['state.update']['params']['supersteps']
/** Names the checkpoint that a change made. */
export type MadeCheckpoint = HostCalls['state.update']['value']['checkpoint']

interface Deps {
  db: Db
  executor: Pick<Executor, 'call'>
}

const TRIES = 8

/** The graph that made the thread's state, or undefined. */
export const graphOf = (metadata: Record<string, unknown>): string | undefined =>
  typeof metadata.graph_id === 'string' ? metadata.graph_id : undefined

/** What the thread's graph is configured with: the assistant's config, and the thread's over it. */
export function configOf(subject: state.StateSubject): StateConfig {
  const ofAssistant: StateConfig = subject.assistant_config ?? {}
  const ofThread: StateConfig = subject.config
  return { ...ofAssistant, ...ofThread, configurable: { ...ofAssistant.configurable, ...ofThread.configurable } }
}

/** Applies updates to a thread's state, at its latest or the given checkpoint. Throws `thread_not_found`, `thread_busy`,
 *  `graph_has_no_state`, `checkpoint_not_found`, and what the graph says of the update. */
export async function updateState(
  deps: Deps,
  change: { thread_id: string; checkpoint?: CheckpointRef | undefined; supersteps: Supersteps; visible: Sql },
): Promise<MadeCheckpoint> {
  const { thread_id, checkpoint, supersteps, visible } = change
  const subject = await state.subject(deps.db, thread_id, visible)
  const graph_id = graphOf(subject.metadata)
  if (graph_id === undefined) throw new ApiError('graph_has_no_state')
  const config = configOf(subject)
  for (let tries = 1; tries <= TRIES; tries++) {
    const before = await state.epoch(deps.db, thread_id)
    const made = await deps.executor.call('state.update', {
      graph_id,
      thread_id,
      config,
      ...(checkpoint && { checkpoint }),
      metadata: subject.metadata,
      supersteps,
    })
    const stored = await deps.db.tx(async (tx) => {
      if ((await state.lock(tx, thread_id, visible)) !== before) return false
      if (checkpoint?.checkpoint_id !== undefined) await state.assertCheckpoint(tx, thread_id, checkpoint.checkpoint_id)
      await store(tx, thread_id, made)
      return true
    })
    if (stored) return made.checkpoint
  }
  throw new ApiError('conflict', 'The state of the thread keeps changing meanwhile: read it and try again.')
}

/** Creates a thread whose state the supersteps build; both or nothing. `metadata.graph_id` says by which graph. Throws
 *  `graph_has_no_state`, `thread_exists`, and what the graph says of the updates. */
export async function createWithState(
  deps: Deps,
  row: Parameters<typeof threads.create>[1],
  ifExists: 'raise' | 'do_nothing',
  supersteps: Supersteps,
  visible: Sql,
): Promise<threads.ThreadRow> {
  const metadata = row.metadata ?? {}
  const graph_id = graphOf(metadata)
  if (graph_id === undefined) {
    throw new ApiError('graph_has_no_state', 'Supersteps need a graph: give its id as metadata.graph_id.')
  }
  if (ifExists === 'do_nothing') {
    const present = await threads.find(deps.db, row.thread_id, visible)
    if (present) return present
  }
  const made = await deps.executor.call('state.update', {
    graph_id,
    thread_id: row.thread_id,
    config: {},
    metadata,
    supersteps,
  })
  return deps.db.tx(async (tx) => {
    await threads.create(tx, row, 'raise', visible)
    await store(tx, row.thread_id, made)
    return threads.get(tx, row.thread_id, visible)
  })
}

async function store(tx: Db, threadId: string, made: HostCalls['state.update']['value']): Promise<void> {
  await checkpoints.store(tx, { puts: made.puts, writes: made.writes, run_id: null })
  await state.settle(tx, threadId, made.state)
}
