// State snapshots in the API's form. In charge of the shape of a ThreadState and of leaving out what was not selected
// before it costs anything; reads nothing itself.

import { checkpointOf } from './debug.ts'
import { describe } from './failure.ts'
import type { Snapshot, SnapshotTask } from './graph.ts'
import * as wire from './wire.ts'

type Fields = Record<string, unknown>

const PARTS = {
  values: (snapshot) => wire.plain(snapshot.values),
  next: (snapshot) => snapshot.next,
  tasks: (snapshot) => snapshot.tasks.map(taskOf),
  metadata: (snapshot) => snapshot.metadata ?? {},
  created_at: (snapshot) => snapshot.createdAt ?? null,
  checkpoint: (snapshot) => checkpointOf(snapshot.config),
  parent_checkpoint: (snapshot) => checkpointOf(snapshot.parentConfig),
  interrupts: (snapshot) => waitingTasks(snapshot).flatMap((task) => task.interrupts.map((item) => wire.plain(item))),
} satisfies Record<string, (snapshot: Snapshot) => unknown>

/** A snapshot as a ThreadState, or the selected parts of one. `values.<key>` selects one key of the values. */
export function threadStateOf(snapshot: Snapshot, select?: readonly string[]): Fields {
  const wanted = select?.length ? new Set(select) : undefined
  const state: Fields = {}
  for (const [name, part] of Object.entries(PARTS)) {
    if (!wanted || wanted.has(name)) state[name] = part(snapshot)
  }
  const keys = [...(wanted ?? [])].filter((name) => name.startsWith('values.')).map((name) => name.slice(7))
  if (keys.length > 0 && !wanted?.has('values')) state.values = pick(snapshot.values, keys)
  return state
}

/** The tasks whose interrupts are open. LangGraph keeps those of an answered task until the whole step is done. */
export const waitingTasks = ({ tasks, next }: Snapshot): SnapshotTask[] =>
  tasks.filter((task) => task.interrupts.length > 0 && task.result === undefined && next.includes(task.name))

const pick = (values: unknown, keys: string[]): Fields =>
  Object.fromEntries(
    keys
      .filter((key) => typeof values === 'object' && values !== null && Object.hasOwn(values, key))
      .map((key) => [key, wire.plain((values as Fields)[key])]),
  )

function taskOf(task: SnapshotTask): Fields {
  const { state } = task
  const isAddress = state !== undefined && 'configurable' in state
  return {
    id: task.id,
    name: task.name,
    path: task.path === undefined ? null : wire.plain(task.path),
    error: task.error === undefined || task.error === null ? null : describe(task.error).message,
    interrupts: task.interrupts.map((item) => wire.plain(item)),
    checkpoint: isAddress ? checkpointOf(state) : null,
    state: state === undefined || isAddress ? null : threadStateOf(state as Snapshot),
    result: task.result === undefined ? null : wire.plain(task.result),
  }
}
