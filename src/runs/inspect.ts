// The commands that look: a namespace's state, its checkpoints, the tree of graphs in a run, what a reader missed. In charge
// of namespaces as the protocol names them; changes nothing.

import type { CommandParams, Namespace } from '../contract/commands.ts'
import * as commands from '../db/commands.ts'
import * as events from '../db/events.ts'
import * as state from '../db/state.ts'
import { configOf, graphOf } from '../graph/state.ts'
import { type Applied, type Caller, type CommandDeps, CommandError, noRun } from './command.ts'
import { logSeqOf } from './protocol.ts'

/** `state.get`: the values of a namespace, or those under some keys. */
export async function getState(
  deps: CommandDeps,
  caller: Caller,
  threadId: string,
  { namespace, keys }: CommandParams<'state.get'>,
): Promise<Applied> {
  const { last_seq } = await seen(deps, caller, threadId)
  const checkpoint_ns = await find(deps, threadId, namespace)
  const select = ['checkpoint', ...(keys?.map((key) => `values.${key}`) ?? ['values'])]
  const found = await readState(deps, caller, threadId, { select, checkpoint_ns })
  const { values, checkpoint } = found as { values?: unknown; checkpoint?: { checkpoint_id: string | null } }
  const id = checkpoint?.checkpoint_id
  return {
    result: { values: values ?? {}, ...(id && { checkpoint: { id, ns: checkpoint_ns } }) },
    applied_through: last_seq,
  }
}

/** The ids of the interrupts that are stored as open now, while a run may be under way. */
export async function openInterrupts(deps: CommandDeps, caller: Caller, threadId: string): Promise<string[]> {
  const { interrupts } = await readState(deps, caller, threadId, { select: ['interrupts'], checkpoint_ns: '' })
  return ((interrupts ?? []) as { id?: string }[]).flatMap(({ id }) => (id === undefined ? [] : [id]))
}

/** `state.listCheckpoints`: newest first, without what they hold. */
export async function listCheckpoints(
  deps: CommandDeps,
  caller: Caller,
  threadId: string,
  { namespace, limit, before }: CommandParams<'state.listCheckpoints'>,
): Promise<Applied> {
  const { last_seq } = await seen(deps, caller, threadId)
  const checkpoint_ns = await find(deps, threadId, namespace)
  const rows = await commands.listCheckpoints(deps.db, threadId, { checkpoint_ns, limit, before })
  return { result: { checkpoints: rows.map(summaryOf) }, applied_through: last_seq }
}

function summaryOf(row: commands.CheckpointRow): Record<string, unknown> {
  const { metadata } = row
  const nodes = finished(row)
  return {
    id: row.checkpoint_id,
    timestamp: row.timestamp,
    step: typeof metadata.step === 'number' ? metadata.step : 0,
    ...(nodes.length === 1 && { node_name: nodes[0] }),
    ...(row.parent_checkpoint_id !== null && { parent_id: row.parent_checkpoint_id }),
    metadata,
  }
}

/** The nodes that ran between the parent and the checkpoint: they have seen newer versions of channels. */
const finished = ({ seen, seen_before }: commands.CheckpointRow): string[] =>
  Object.entries(seen ?? {})
    .filter(
      ([node, versions]) => !node.startsWith('__') && JSON.stringify(seen_before?.[node]) !== JSON.stringify(versions),
    )
    .map(([node]) => node)

type Status = 'started' | 'running' | 'completed' | 'failed' | 'interrupted'

interface TreeNode {
  namespace: string[]
  status: Status
  graph_name: string
  children: TreeNode[]
}

/** `agent.getTree`: the graphs of a run, the present or last one by default, as far as they have stored a checkpoint. */
export async function getTree(
  deps: CommandDeps,
  caller: Caller,
  threadId: string,
  { run_id }: CommandParams<'agent.getTree'>,
): Promise<Applied> {
  const thread = await seen(deps, caller, threadId)
  const tree = await treeOf(deps, thread, run_id)
  return { result: { tree }, applied_through: thread.last_seq }
}

async function treeOf({ db }: CommandDeps, thread: commands.Subject, runId: string | undefined): Promise<TreeNode> {
  const run = await commands.treeRun(db, thread.thread_id, runId)
  if (run === undefined) {
    if (runId === undefined) throw noRun(thread.thread_id)
    throw new CommandError('no_such_run', `There is no run ${runId} on this thread.`)
  }
  const end = endOf(run, thread)
  const rows = await commands.namespacesOfRun(db, run.run_id)
  const last = new Map(rows.map((row) => [row.checkpoint_ns, row.last]))
  const tree: TreeNode = { namespace: [], status: end, graph_name: run.graph_id, children: [] }
  for (const { checkpoint_ns } of rows.filter(({ checkpoint_ns: ns }) => ns !== '')) {
    const namespace = checkpoint_ns.split('|')
    const around = namespace.slice(0, -1).join('|')
    // A graph that has come to its end lets the one around it go on, which then stores a newer checkpoint.
    const isOver = (last.get(around) ?? '') > (last.get(checkpoint_ns) ?? '')
    const graph_name = namespace.at(-1)?.split(':')[0] ?? ''
    parentOf(tree, namespace).children.push({ namespace, status: isOver ? 'completed' : end, graph_name, children: [] })
  }
  return tree
}

/** The nearest graph around a namespace. */
function parentOf(node: TreeNode, namespace: readonly string[]): TreeNode {
  const inner = node.children.find((child) => child.namespace.every((segment, i) => segment === namespace[i]))
  return inner ? parentOf(inner, namespace) : node
}

function endOf({ status, is_last, asked }: commands.TreeRun, { settled_status }: commands.Subject): Status {
  switch (status) {
    case 'pending':
      return 'started'
    case 'running':
      return 'running'
    case 'success':
      return asked || (is_last && settled_status === 'interrupted') ? 'interrupted' : 'completed'
    case 'interrupted':
      return 'interrupted'
    case 'error':
    case 'timeout':
      return 'failed'
  }
}

/** `subscription.reconnect`: whether all that came after an event is still there to be read, and how much that is.
 *  Subscriptions are their connection's: the client makes them anew, with `since`. */
export async function reconnect(
  deps: CommandDeps,
  caller: Caller,
  threadId: string,
  { run_id, last_event_id }: CommandParams<'subscription.reconnect'>,
): Promise<Applied> {
  const thread = await seen(deps, caller, threadId)
  const from = last_event_id === undefined ? 'beginning' : placeOf(last_event_id)
  const start = await events.startOfRun(deps.db, { run_id, thread_id: threadId }, from, caller.visible)
  if (start === undefined) throw new CommandError('no_such_run', `There is no run ${run_id} on this thread.`)
  const tree = await treeOf(deps, thread, run_id)
  return {
    result: {
      restored: !start.gap,
      missed_events: Math.max(0, thread.last_seq - start.after),
      current_namespaces: flat(tree),
    },
    applied_through: thread.last_seq,
  }
}

const flat = ({ namespace, status, children }: TreeNode): { namespace: string[]; status: Status }[] => [
  { namespace, status },
  ...children.flatMap(flat),
]

/** The place in the log of an event by its id: the id ends with its number. */
function placeOf(eventId: string): number {
  const digits = /(?:^|:)(\d{1,15})$/.exec(eventId)?.[1]
  if (digits === undefined) {
    throw new CommandError('invalid_argument', 'params.last_event_id: must be the event_id of an event of this thread')
  }
  return logSeqOf(Number(digits))
}

async function seen({ db }: CommandDeps, { visible }: Caller, threadId: string): Promise<commands.Subject> {
  const found = await commands.subject(db, threadId, visible)
  if (found === undefined) throw noRun(threadId)
  return found
}

/** The stored namespace that these segments name: where one leaves out the task, that of the latest. */
async function find({ db }: CommandDeps, threadId: string, namespace: Namespace): Promise<string> {
  if (namespace.length === 0) return ''
  const found = await commands.findNamespace(db, threadId, namespace)
  if (found !== undefined) return found
  throw new CommandError('no_such_namespace', `The thread has no namespace ${JSON.stringify(namespace).slice(0, 200)}.`)
}

async function readState(
  { db, executor }: CommandDeps,
  { visible }: Caller,
  thread_id: string,
  { select, checkpoint_ns }: { select: string[]; checkpoint_ns: string },
): Promise<Record<string, unknown>> {
  const subject = await state.subject(db, thread_id, visible)
  const graph_id = graphOf(subject.metadata)
  if (graph_id === undefined) return {}
  const checkpoint = checkpoint_ns === '' ? {} : { checkpoint: { checkpoint_ns } }
  const config = configOf(subject)
  const found = await executor.call('state.get', {
    graph_id,
    thread_id,
    config,
    ...checkpoint,
    subgraphs: false,
    select,
  })
  return found === null ? {} : (JSON.parse(found.text) as Record<string, unknown>)
}
