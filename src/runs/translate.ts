// The log in the words of the thread protocol. In charge of what each event of the log becomes, of telling how runs and their
// subgraphs stand, and of the order within a run. Pure: what it gives depends on the log alone, from where a run begins.

import { NOTE } from '../executor/debug.ts'
import { createMessages, type MessageData, type Messages } from './blocks.ts'
import { ANSWERED, END, type LoggedEvent } from './log.ts'
import { type Draft, MAX_PARTS, seqOf, type ThreadEvent } from './protocol.ts'

type Fields = Record<string, unknown>

/** Makes the protocol's events of the log's, which it is given in order; a run must be given from its beginning. */
export type Translate = (logged: LoggedEvent) => ThreadEvent[]

/** A translator that has seen nothing yet. */
export function createTranslator(): Translate {
  const runs = new Map<string, Run>()
  return (logged) => {
    const run = runs.get(logged.run_id) ?? newRun()
    runs.set(logged.run_id, run)
    if (logged.event === END) runs.delete(logged.run_id)
    const { seq, run_id } = logged
    return draftsOf(run, logged)
      .slice(0, MAX_PARTS)
      .map((draft, index) => ({ ...draft, seq: seqOf(seq, index), run_id }))
  }
}

interface Run {
  messages: Messages
  /** Where messages come from, by their place. */
  places: Map<string, Spot>
  /** True once chunks came: what `messages` mode adds up from them is then passed over. */
  hasChunks: boolean
  requested: Set<string>
  children: Map<string, { namespace: string[]; name: string; ended: boolean }>
  /** Tasks that run, by their graph. */
  tasks: Map<string, Map<string, { name: string; call: string | undefined; delegates?: boolean }>>
  error: { error?: unknown; message?: unknown } | undefined
}

interface Spot {
  namespace: string[]
  graph: string
  node: string | undefined
  inTask: boolean
  apart: boolean
}

const newRun = (): Run => ({
  messages: createMessages(),
  places: new Map(),
  hasChunks: false,
  requested: new Set(),
  children: new Map(),
  tasks: new Map(),
  error: undefined,
})

interface Line {
  namespace: string[]
  at: number
  text: string
}

function draftsOf(run: Run, { event, data: text, at }: LoggedEvent): Draft[] {
  const [name, ...namespace] = event.split('|') as [string, ...string[]]
  const line: Line = { namespace, at, text }
  switch (name) {
    case 'metadata':
      // What an attempt before left open is told again.
      Object.assign(run, { ...newRun(), requested: run.requested })
      return [ofRun(line, { event: 'running' })]
    case ANSWERED:
      return [draft('input.answered', [], line, `{"interrupt_ids":${text}}`, { channel: 'input' })]
    case 'error':
      run.error = JSON.parse(text) as Fields
      return []
    case END:
      return ending(run, line)
    case 'lifecycle':
      return lifecycle(run, line)
    case 'tasks':
      return tasks(run, line)
    case 'values':
      return [...born(run, line), ...spoken(run, line), ...values(run, line)]
    case 'updates':
      return [...born(run, line), ...spoken(run, line), ...updates(run, line)]
    case NOTE:
      return [...born(run, line), draft('checkpoints', namespace, line, text)]
    case 'custom':
      return [...born(run, line), custom(line)]
    case 'tools':
      return [...born(run, line), tool(run, line)]
    case 'messages': {
      run.hasChunks = true
      const [heard, metadata] = JSON.parse(text) as [Fields, Fields]
      return [...born(run, line), ...message(run, line, heard, metadata, false)]
    }
    case 'messages/partial':
    case 'messages/complete': {
      if (run.hasChunks) return []
      const heard = JSON.parse(text) as Fields[]
      return [...born(run, line), ...heard.flatMap((one) => message(run, line, one, {}, true))]
    }
    default:
      return []
  }
}

function draft(
  method: string,
  namespace: readonly string[],
  { at }: Line,
  data: string,
  more: Partial<Draft> & { node?: string | undefined } = {},
): Draft {
  const { node, ...rest } = more
  const from = node === undefined ? '' : `"node":${JSON.stringify(node)},`
  return { method, namespace, params: `{"timestamp":${at},${from}"data":${data}}`, ...rest }
}

// ------------------------------------------------------------------------------------------------ how it stands

const ofRun = (line: Line, data: Fields, more: Partial<Draft> = {}): Draft =>
  draft('lifecycle', [], line, JSON.stringify(data), { ofRun: true, ...more })

/** Subgraphs begin with the first that is heard of them. */
function born(run: Run, line: Line, about: { name?: string | undefined; call?: string | undefined } = {}): Draft[] {
  const drafts: Draft[] = []
  for (let depth = 1; depth <= line.namespace.length; depth++) {
    const namespace = line.namespace.slice(0, depth)
    const key = namespace.join('|')
    if (run.children.has(key)) continue
    const isLast = depth === line.namespace.length
    const [node = '', task = ''] = (namespace.at(-1) ?? '').split(':')
    const name = (isLast ? about.name : undefined) ?? node
    run.children.set(key, { namespace, name, ended: false })
    const call = (isLast ? about.call : undefined) ?? run.tasks.get(namespace.slice(0, -1).join('|'))?.get(task)?.call
    const cause = call === undefined ? {} : { cause: { type: 'toolCall', tool_call_id: call } }
    drafts.push(draft('lifecycle', namespace, line, JSON.stringify({ event: 'started', graph_name: name, ...cause })))
  }
  return drafts
}

function ended(run: Run, line: Line, key: string, event: string, error?: string): Draft[] {
  const child = run.children.get(key)
  if (child === undefined || child.ended) return []
  child.ended = true
  const data = { event, graph_name: child.name, ...(error !== undefined && { error }) }
  return [draft('lifecycle', child.namespace, line, JSON.stringify(data))]
}

function lifecycle(run: Run, line: Line): Draft[] {
  const { event, tool_call_id, error } = JSON.parse(line.text) as Fields
  if (event === 'started') return born(run, line, { call: textOr(tool_call_id) })
  return ended(run, line, line.namespace.join('|'), String(event), messageOf(error))
}

function tasks(run: Run, line: Line): Draft[] {
  const task = JSON.parse(line.text) as Fields
  const graph = line.namespace.join('|')
  const [id, name] = [String(task.id), String(task.name)]
  const agent = textOr((task.metadata as Fields | undefined)?.lc_agent_name)
  const before = born(run, line, { name: agent })
  const told = draft('tasks', line.namespace, line, line.text)
  const here = run.tasks.get(graph) ?? new Map()
  run.tasks.set(graph, here)
  if (!('result' in task)) {
    here.set(id, { name, call: callOf(task.input) })
    return [...before, told]
  }
  here.delete(id)
  const key = [...line.namespace, `${name}:${id}`].join('|')
  const failure = messageOf(task.error)
  const waits = Array.isArray(task.interrupts) && task.interrupts.length > 0
  const event = failure !== undefined ? 'failed' : waits ? 'interrupted' : 'completed'
  const spoke = finish(run, line, (place) => place === key)
  return [...before, ...spoke, told, ...ended(run, line, key, event, failure)]
}

function ending(run: Run, line: Line): Draft[] {
  const { status, waiting, interrupts } = JSON.parse(line.text) as Fields
  const isOver = status === 'success' && waiting !== true
  const event = isOver ? 'completed' : status === 'error' || status === 'timeout' ? 'failed' : 'interrupted'
  const open = Object.values((interrupts as Record<string, unknown[]> | undefined) ?? {}).flat()
  const failure = run.error && { error: String(run.error.message), ...refusalOf(run.error) }
  const broken = status === 'success' ? undefined : 'The run ended before the message did.'
  return [
    ...finish(run, line, () => true, broken),
    ...[...run.children.keys()].reverse().flatMap((key) => ended(run, line, key, event)),
    ...open.flatMap((interrupt) => requested(run, line, interrupt as Fields)),
    ofRun(line, { event, ...failure }, event === 'interrupted' ? { asks: true } : {}),
  ]
}

/** A strict answer that named what does not wait says so in a form that clients read. */
const refusalOf = ({ reason, interrupt_ids, pending_ids }: Fields): Fields =>
  reason === undefined ? {} : { reason, interrupt_ids, pending_ids }

// ------------------------------------------------------------------------------------------------ what it says

function requested(run: Run, line: Line, { id, value }: Fields): Draft[] {
  if (typeof id !== 'string' || run.requested.has(id)) return []
  run.requested.add(id)
  const data = JSON.stringify({ interrupt_id: id, payload: value ?? null, value: value ?? null })
  return [draft('input.requested', line.namespace, line, data, { channel: 'input', asks: true })]
}

const INTERRUPT = '__interrupt__'

function values(run: Run, line: Line): Draft[] {
  if (!line.text.includes(`"${INTERRUPT}"`)) return [draft('values', line.namespace, line, line.text)]
  const { [INTERRUPT]: interrupts, ...rest } = JSON.parse(line.text) as Fields
  const asked = listOf(interrupts).flatMap((interrupt) => requested(run, line, interrupt))
  return Object.keys(rest).length === 0
    ? asked
    : [...asked, draft('values', line.namespace, line, JSON.stringify(rest))]
}

function updates(run: Run, line: Line): Draft[] {
  return Object.entries(JSON.parse(line.text) as Fields).flatMap(([node, update]) => {
    if (node === INTERRUPT) return listOf(update).flatMap((interrupt) => requested(run, line, interrupt))
    const values = typeof update === 'object' && update !== null ? update : { value: update }
    return [draft('updates', line.namespace, line, JSON.stringify({ node, values }), { node })]
  })
}

function custom(line: Line): Draft {
  const { namespace, text } = line
  const name = text.startsWith('{') && text.includes('"name"') ? (JSON.parse(text) as Fields).name : undefined
  if (typeof name === 'string') return draft('custom', namespace, line, text, { channel: `custom:${name}` })
  return draft('custom', namespace, line, `{"payload":${text}}`)
}

function tool(run: Run, line: Line): Draft {
  const said = JSON.parse(line.text) as Fields
  const call = String(said.toolCallId ?? '')
  const here = [...(run.tasks.get(line.namespace.join('|')) ?? [])]
  const own = here.find(([, task]) => task.call === call) ?? (here.length === 1 ? here[0] : undefined)
  const data = JSON.stringify(toolData(call, said))
  if (own === undefined) return draft('tools', line.namespace, line, data)
  const [id, task] = own
  // A tool of this name is an agent to clients, and is to be found where it works.
  if (said.event === 'on_tool_start') task.delegates = said.name === 'task'
  const from = { node: task.name, inTask: true, apart: task.delegates === true }
  return draft('tools', [...line.namespace, `${task.name}:${id}`], line, data, from)
}

function toolData(tool_call_id: string, said: Fields): Fields {
  switch (said.event) {
    case 'on_tool_start':
      return { event: 'tool-started', tool_call_id, tool_name: said.name, input: said.input }
    case 'on_tool_event':
      return { event: 'tool-output-delta', tool_call_id, delta: textOr(said.data) ?? JSON.stringify(said.data ?? '') }
    case 'on_tool_end':
      return { event: 'tool-finished', tool_call_id, output: said.output ?? null }
    default:
      return { event: 'tool-error', tool_call_id, message: messageOf(said.error) ?? 'The tool failed.' }
  }
}

function message(run: Run, line: Line, heard: Fields, metadata: Fields, whole: boolean): Draft[] {
  // What a tool answered is told by its own channel.
  if (heard.type === 'tool') return []
  const path = textOr(metadata.langgraph_checkpoint_ns)?.split('|') ?? line.namespace
  const inTask = path.length > line.namespace.length
  const place = path.join('|')
  const node = textOr(metadata.langgraph_node)
  // What a model says within a tool is not what the agent says: clients tell it by the tools' node.
  const apart = /^(tools|task):/.test(path.at(-1) ?? '')
  run.places.set(place, { namespace: path, graph: line.namespace.join('|'), node, inTask, apart })
  const data = whole ? run.messages.seeWhole(place, heard, metadata) : run.messages.see(place, heard, metadata)
  return said(run, line, place, data)
}

function said(run: Run, line: Line, place: string, data: MessageData[]): Draft[] {
  const from = run.places.get(place)
  if (from === undefined) return []
  const { namespace, node, inTask, apart } = from
  return data.map((one) => draft('messages', namespace, line, JSON.stringify(one), { node, inTask, apart }))
}

const finish = (run: Run, line: Line, isDone: (place: string, id: string) => boolean, failed?: string): Draft[] =>
  run.messages.finish(isDone, failed).flatMap(({ place, data }) => said(run, line, place, data))

/** A message that is in the state now has been said. */
function spoken(run: Run, line: Line): Draft[] {
  const graph = line.namespace.join('|')
  return finish(
    run,
    line,
    (place, id) => run.places.get(place)?.graph === graph && line.text.includes(JSON.stringify(id)),
  )
}

// ------------------------------------------------------------------------------------------------ words

const textOr = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

const listOf = (value: unknown): Fields[] => (Array.isArray(value) ? value : [])

function messageOf(error: unknown): string | undefined {
  if (error === undefined || error === null || error === false || error === '') return undefined
  return textOr((error as Fields).message) ?? textOr(error) ?? JSON.stringify(error)
}

/** The tool call that a task answers. */
function callOf(input: unknown): string | undefined {
  const call = Array.isArray(input) ? input[0] : (input as { tool_call?: unknown } | null | undefined)?.tool_call
  return textOr((call as { id?: unknown } | undefined)?.id)
}
