// The commands that make runs: start, answer, inject, fork. In charge of what a run on this thread has to be, decided under
// the thread's lock: an answer is taken once, whoever sends it twice, and only to a question that is open.

import type { CommandParams } from '../contract/commands.ts'
import type { Command } from '../contract/common.ts'
import type { RunCreate } from '../contract/runs.ts'
import * as commands from '../db/commands.ts'
import type { Db } from '../db/db.ts'
import type { Registry } from '../graph/registry.ts'
import { type Applied, type Caller, type CommandDeps, CommandError, noRun } from './command.ts'
import type { Decide } from './create.ts'
import { openInterrupts } from './inspect.ts'

/** How long an answer waits for the run that asks to put its question down. */
const PATIENCE_MS = 5_000

/** `run.start`: a run with this input. On a thread that waits for an answer, and where nothing else is to run, the input is
 *  the answer. Makes the thread where it does not exist. */
export async function start(
  deps: CommandDeps,
  caller: Caller,
  threadId: string,
  body: CommandParams<'run.start'>,
): Promise<Applied> {
  const assistantId = deps.registry.resolve(body.assistant_id)
  if (body.checkpoint?.checkpoint_id !== undefined)
    await needCheckpoint(deps.db, caller, threadId, body.checkpoint.checkpoint_id)
  const under: Decide['under'] = async (tx) => {
    const found = await commands.subject(tx, threadId, caller.visible)
    if (found === undefined) throw noRun(threadId)
    const bound = assistantOf(found, deps.registry)
    if (found.assistant_id !== null && bound !== assistantId) {
      throw new CommandError(
        'invalid_argument',
        `The thread runs with the assistant ${found.assistant_id}: start the run with it, or on another thread.`,
      )
    }
    if (body.checkpoint !== undefined || body.input === undefined || body.input === null) return body
    const open = idsOf(found)
    if (open.length === 0 || (await commands.ahead(tx, threadId)).length > 0) return body
    const resume = answerOf(body.input, open)
    return { ...body, input: undefined, command: { resume } satisfies Command }
  }
  const asIs = body.checkpoint === undefined ? commands.startsPlain(assistantId) : commands.never
  return made(deps, caller, threadId, body, { asIs, under })
}

/** `state.fork`: a run that goes on from a checkpoint, on the same thread. */
export async function fork(
  deps: CommandDeps,
  caller: Caller,
  threadId: string,
  { checkpoint_id, options }: CommandParams<'state.fork'>,
): Promise<Applied> {
  const found = await needCheckpoint(deps.db, caller, threadId, checkpoint_id)
  const body = { ...options, assistant_id: assistantOf(found, deps.registry) ?? '' }
  const { result, ...applied } = await made(deps, caller, threadId, body)
  return { result: { ...result, thread_id: threadId }, ...applied }
}

/** `input.inject`: a run whose input is the message, behind those that run and wait. */
export async function inject(
  deps: CommandDeps,
  caller: Caller,
  threadId: string,
  { options }: CommandParams<'input.inject'>,
): Promise<Applied> {
  const found = await commands.subject(deps.db, threadId, caller.visible)
  const assistant_id = found && assistantOf(found, deps.registry)
  if (assistant_id === undefined) throw noRun(threadId)
  const body = { ...options, assistant_id }
  const under: Decide['under'] = async (tx) => {
    const now = await commands.subject(tx, threadId, caller.visible)
    if (now !== undefined && idsOf(now).length > 0 && (await commands.ahead(tx, threadId)).length === 0) {
      throw new CommandError(
        'invalid_argument',
        'The thread waits for an answer, which a message would take away: use input.respond, whose `update` can carry one.',
      )
    }
    return body
  }
  return made(deps, caller, threadId, body, { asIs: commands.startsPlain(assistant_id), under })
}

/** `input.respond`: a run that takes the answers. */
export async function respond(
  deps: CommandDeps,
  caller: Caller,
  threadId: string,
  { responses, options }: CommandParams<'input.respond'>,
): Promise<Applied> {
  const found = await commands.subject(deps.db, threadId, caller.visible)
  const assistant_id = found && assistantOf(found, deps.registry)
  if (assistant_id === undefined) throw noRun(threadId)
  const body = { ...options, assistant_id }
  const ids = Object.keys(responses)
  let asked: Asked | undefined
  const under: Decide['under'] = async (tx) => {
    const [now, ahead] = await Promise.all([
      commands.subject(tx, threadId, caller.visible),
      commands.ahead(tx, threadId),
    ])
    if (now === undefined) throw noRun(threadId)
    checkOpen(ids, idsOf(now), ahead, asked)
    // What goes before may close the question yet: then the run is to fail rather than to begin anew.
    return ahead.length > 0 ? { ...body, strict_resume: true } : body
  }
  for (let wait = 25, waited = 0; ; waited += wait, wait = Math.min(wait * 2, 400)) {
    try {
      return await made(deps, caller, threadId, body, { asIs: commands.never, under })
    } catch (error) {
      if (!(error instanceof MayAsk) || waited >= PATIENCE_MS) throw error
      asked = { run_id: error.run_id, ids: await openInterrupts(deps, caller, threadId) }
      if (!ids.every((id) => asked?.ids.includes(id))) await new Promise((resolve) => setTimeout(resolve, wait))
    }
  }
}

/** The interrupts that a run had stored while it was still running. */
interface Asked {
  run_id: string
  ids: readonly string[]
}

/** The interrupt is not open as far as the thread's row says, but a run is under way that may have raised it. */
class MayAsk extends CommandError {
  readonly run_id: string
  constructor(ids: readonly string[], run_id: string) {
    super('no_such_interrupt', `${nameOf(ids)} not open: run ${run_id} still runs and has not asked this.`)
    this.run_id = run_id
  }
}

/** Throws unless all are open and will be when their turn comes. A run that answers one of several questions leaves the others
 *  open, so answers may line up behind it; behind any other run there is nothing to answer. */
function checkOpen(
  ids: readonly string[],
  open: readonly string[],
  ahead: readonly commands.Ahead[],
  asked: Asked | undefined,
): void {
  const answering = ahead.find((run) => run.answers_all || run.answers?.some((id) => ids.includes(id)))
  if (answering) throw notOpen(ids, `run ${answering.run_id} has the answer`)
  const running = ahead.find(({ status }) => status === 'running')
  const other = ahead.find((run) => run !== running && run.answers === null)
  if (other) throw notOpen(ids, `run ${other.run_id} goes before`)
  if (running && running.run_id === asked?.run_id && ids.every((id) => asked.ids.includes(id))) return
  if (running?.answers !== null && ids.every((id) => open.includes(id))) return
  if (running) throw new MayAsk(ids, running.run_id)
  throw notOpen(ids, 'reload the state to see what is')
}

const notOpen = (ids: readonly string[], why: string): CommandError =>
  new CommandError('no_such_interrupt', `${nameOf(ids)} not open: ${why}.`)

const nameOf = (ids: readonly string[]): string =>
  ids.length === 1 ? `The interrupt ${ids[0]} is` : `Of the ${ids.length} interrupts named, not all exist or are`

/** The resume value for an input: each question is answered by its id. */
function answerOf(input: unknown, open: readonly string[]): Record<string, unknown> {
  const [first = '', ...others] = open
  const isMap = typeof input === 'object' && input !== null && !Array.isArray(input)
  const keys = isMap ? Object.keys(input) : []
  if (keys.length > 0 && keys.every((key) => open.includes(key))) return input as Record<string, unknown>
  if (others.length === 0) return { [first]: input }
  throw new CommandError(
    'invalid_argument',
    `The thread waits for ${open.length} answers: give them by their ids, with input.respond.`,
  )
}

const idsOf = ({ interrupts }: commands.Subject): string[] =>
  Object.values(interrupts).flatMap((ofTask) => ofTask.flatMap(({ id }) => (id === undefined ? [] : [id])))

/** The assistant that runs on the thread go on with. */
function assistantOf(found: commands.Subject, registry: Registry): string | undefined {
  const named = found.assistant_id ?? found.graph_id
  if (named === null) return undefined
  try {
    return registry.resolve(named)
  } catch {
    return named
  }
}

async function needCheckpoint(
  db: Db,
  caller: Caller,
  threadId: string,
  checkpointId: string,
): Promise<commands.Subject> {
  const found = await commands.subject(db, threadId, caller.visible)
  if (found && (await commands.hasCheckpoint(db, threadId, checkpointId))) return found
  throw new CommandError('no_such_checkpoint', `The thread has no checkpoint ${checkpointId}.`)
}

async function made(
  { engine }: CommandDeps,
  { visible, configurable }: Caller,
  thread_id: string,
  body: RunCreate,
  decide?: Decide,
): Promise<Applied> {
  const { run, after } = await engine.create({ thread_id, body, visible, configurable, ...(decide && { decide }) })
  return { result: { run_id: run.run_id }, applied_through: after }
}
