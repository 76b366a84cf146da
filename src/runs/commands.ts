// The dispatcher of the thread protocol's commands: every transport gives it what it received and sends what it
// answers. In charge of the envelope and of what a failure is called; what a command does is in the files beside it. A
// command that is refused is an answer; only the server's own failures are thrown.

import {
  type CommandErrorCode,
  type CommandMethod,
  type CommandParams,
  type CommandResponse,
  commandParams,
  envelope,
} from '../contract/commands.ts'
import { explain, problemOf } from '../contract/problem.ts'
import { ApiError, type ErrorCode } from '../errors.ts'
import { type Applied, type Caller, type CommandDeps, CommandError } from './command.ts'
import { getState, getTree, listCheckpoints, reconnect } from './inspect.ts'
import { appliedThrough } from './protocol.ts'
import { fork, inject, respond, start } from './steer.ts'

export interface Commands {
  /** Does what a command says. `status` is 400 where it is no command at all. Rejects only where the server failed. */
  dispatch(
    caller: Caller,
    threadId: string,
    command: unknown,
  ): Promise<{ status: 200 | 400; response: CommandResponse }>
}

type Handlers = {
  [M in CommandMethod]: (
    deps: CommandDeps,
    caller: Caller,
    threadId: string,
    params: CommandParams<M>,
  ) => Promise<Applied>
}

const handlers: Handlers = {
  'run.start': start,
  'input.respond': respond,
  'input.inject': inject,
  'state.get': getState,
  'state.listCheckpoints': listCheckpoints,
  'state.fork': fork,
  'agent.getTree': getTree,
  'subscription.reconnect': reconnect,
}

/** Makes the dispatcher. */
export function createCommands(deps: CommandDeps): Commands {
  return {
    async dispatch(caller, threadId, command) {
      const read = envelope.safeParse(command, { error: explain })
      if (!read.success) {
        const malformed = new CommandError('invalid_argument', problemOf('command', read.error).detail)
        return { status: 400, response: refused(idOf(command), malformed) }
      }
      const { id, method, params } = read.data
      try {
        if (!isKnown(method)) throw unknown(method)
        const { result, applied_through } = await run(deps, caller, threadId, method, params)
        const meta = { thread_id: threadId, applied_through_seq: appliedThrough(applied_through) }
        return { status: 200, response: { type: 'success', id, result, meta } }
      } catch (error) {
        if (codeOf(error) === undefined) throw error
        return { status: 200, response: { ...refused(id, error), meta: { thread_id: threadId } } }
      }
    },
  }
}

/** The answer that says why a command was not done, also where it was the server that failed. */
export function refused(id: number | null, error: unknown): CommandResponse {
  const shown = error instanceof CommandError || error instanceof ApiError ? error : new ApiError('internal')
  return { type: 'error', id, error: codeOf(shown) ?? 'unknown_error', message: shown.message }
}

function run<M extends CommandMethod>(
  deps: CommandDeps,
  caller: Caller,
  threadId: string,
  method: M,
  given: Record<string, unknown>,
): Promise<Applied> {
  const params = commandParams[method].safeParse(given, { error: explain })
  if (!params.success) {
    const { code, detail } = problemOf('params', params.error)
    throw new CommandError(code === 'not_supported' ? 'not_supported' : 'invalid_argument', detail)
  }
  return handlers[method](deps, caller, threadId, params.data as CommandParams<M>)
}

const isKnown = (method: string): method is CommandMethod => Object.hasOwn(commandParams, method)

const unknown = (method: string): CommandError =>
  method === 'subscription.subscribe' || method === 'subscription.unsubscribe'
    ? new CommandError(
        'not_supported',
        'Subscriptions belong to a WebSocket: over HTTP, POST to stream/events, and close it to unsubscribe.',
      )
    : new CommandError(
        'unknown_command',
        `There is no command "${method.slice(0, 64)}". The commands: ${Object.keys(commandParams).join(', ')}.`,
      )

/** The id of what failed to be a command, so that its sender can tell which one. */
function idOf(command: unknown): number | null {
  const id = typeof command === 'object' && command !== null && 'id' in command ? command.id : undefined
  return Number.isSafeInteger(id) && (id as number) >= 0 ? (id as number) : null
}

const codes: Partial<Record<ErrorCode, CommandErrorCode>> = {
  thread_not_found: 'no_such_run',
  run_not_found: 'no_such_run',
  graph_has_no_state: 'no_such_run',
  checkpoint_not_found: 'no_such_checkpoint',
  assistant_not_found: 'invalid_argument',
  graph_not_found: 'invalid_argument',
  validation_failed: 'invalid_argument',
  invalid_json: 'invalid_argument',
  thread_busy: 'invalid_argument',
  not_supported: 'not_supported',
}

/** What the protocol calls a failure; undefined for the server's own. */
function codeOf(error: unknown): CommandErrorCode | undefined {
  if (error instanceof CommandError) return error.code
  if (!(error instanceof ApiError) || error.status === 503 || error.code === 'internal') return undefined
  return codes[error.code] ?? (error.status === 403 ? 'permission_denied' : 'unknown_error')
}
