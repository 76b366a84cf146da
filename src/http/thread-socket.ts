// The thread protocol on a WebSocket. In charge of frames that come and go, and of subscriptions; what a command does is the
// dispatcher's. Subscriptions are named by what they are, so that any process can bring them back.

import { type EventSubscription, subscription } from '../contract/thread-events.ts'
import { ApiError } from '../errors.ts'
import type { Session } from '../runs/session.ts'
import { closeCodeOf, type Socket } from './sockets.ts'

export interface ThreadSocketDeps {
  session: Session
  /** Answers what is not about subscriptions. */
  dispatch(command: unknown): Promise<unknown>
  /** Whether the thread has the run. */
  hasRun(runId: string): Promise<boolean>
  /** Told why the log could not be read. */
  failed(error: unknown): void
}

type Fields = Record<string, unknown>

/** An answer; where something is done besides, `act` does it and says when the answer is to be given. */
interface Answer {
  result: unknown
  act?: (begin: () => void) => void
}

/** How many subscriptions a connection may have. */
const MAX_SUBSCRIPTIONS = 100

/** Serves a connection until it ends. */
export function serveThreadSocket(socket: Socket, deps: ThreadSocketDeps): void {
  const { session } = deps
  let count = 0
  const answer = (response: unknown): void => void socket.send(JSON.stringify(response))

  async function pump(): Promise<void> {
    try {
      for await (const { text } of session.frames(socket.signal)) {
        const room = socket.send(text)
        if (room) await room
      }
      socket.close(closeCodeOf(404), 'The thread was deleted.')
    } catch (error) {
      if (!(error instanceof ApiError)) deps.failed(error)
      // The codes that tell a client to come back.
      const known = error instanceof ApiError && error.status < 500
      if (known) socket.close(closeCodeOf(error.status), error.message)
      else socket.close(1012, 'The server ends this connection: come back.')
    }
  }

  /** What is asked for, checked; throws a refusal. */
  function wantedOf(params: unknown): EventSubscription {
    const parsed = subscription.safeParse(params)
    if (parsed.success) return parsed.data
    const issue = parsed.error.issues[0]
    const at = ['params', ...(issue?.path ?? [])].join('.')
    throw new Refusal('invalid_argument', `${at}: ${issue?.message ?? 'is not valid'}`)
  }

  function subscribe(params: unknown): Answer {
    const { since, ...wanted } = wantedOf(params)
    if (session.size() >= MAX_SUBSCRIPTIONS)
      throw new Refusal('invalid_argument', `A connection may have ${MAX_SUBSCRIPTIONS} subscriptions: end one first.`)
    const subscription_id = `${++count}.${Buffer.from(JSON.stringify(wanted)).toString('base64url')}`
    return {
      result: { subscription_id },
      act: (begin) => session.subscribe(subscription_id, wanted, { since, begin }),
    }
  }

  async function reconnect(params: Fields): Promise<Answer> {
    const { run_id, last_event_id, subscriptions: names = [] } = params
    if (typeof run_id !== 'string' || !(await deps.hasRun(run_id)))
      throw new Refusal('no_such_run', `There is no run ${String(run_id)} on this thread.`)
    if (!Array.isArray(names)) throw new Refusal('invalid_argument', 'params.subscriptions: must be a list of ids')
    const since = Number(
      String(last_event_id ?? '0')
        .split(':')
        .at(-1),
    )
    const wanted = names.map((name) => [String(name), wantedOf({ ...filterOf(String(name)), since })] as const)
    return {
      result: { restored: wanted.length > 0 },
      act: (begin) => {
        if (wanted.length === 0) begin()
        for (const [i, [name, { since, ...filter }]] of wanted.entries())
          session.subscribe(name, filter, { since, ...(i === 0 && { begin }) })
      },
    }
  }

  async function about(method: string, params: Fields): Promise<Answer> {
    switch (method) {
      case 'subscription.subscribe':
        return subscribe(params)
      case 'subscription.unsubscribe':
        if (!session.unsubscribe(String(params.subscription_id))) throw noSubscription(params.subscription_id)
        return { result: {} }
      case 'subscription.reconnect':
        return reconnect(params)
      default:
        throw new Refusal('unknown_command', `There is no command ${method}.`)
    }
  }

  async function hear(text: string): Promise<void> {
    let command: Fields
    try {
      command = JSON.parse(text) as Fields
    } catch {
      return answer({ type: 'error', id: null, error: 'invalid_argument', message: 'A frame must be JSON.' })
    }
    const { id, method, params } = command ?? {}
    const isOurs = typeof method === 'string' && method.startsWith('subscription.') && Number.isSafeInteger(id)
    if (!isOurs) return answer(await deps.dispatch(command))
    try {
      const given = typeof params === 'object' && params !== null ? (params as Fields) : {}
      const { result, act = (begin) => begin() } = await about(method, given)
      act(() => answer({ type: 'success', id: id as number, result }))
    } catch (error) {
      if (!(error instanceof Refusal)) deps.failed(error)
      const refusal = error instanceof Refusal ? error : new Refusal('unknown_error', 'The server failed to answer.')
      answer({ type: 'error', id: id as number, error: refusal.code, message: refusal.message })
    }
  }

  socket.onText(hear)
  void pump()
}

type RefusalCode = 'invalid_argument' | 'no_such_run' | 'no_such_subscription' | 'unknown_command' | 'unknown_error'

class Refusal extends Error {
  readonly code: RefusalCode
  constructor(code: RefusalCode, message: string) {
    super(message)
    this.code = code
  }
}

const noSubscription = (id: unknown): Refusal =>
  new Refusal('no_such_subscription', `There is no subscription ${String(id)}.`)

/** The filter that a subscription's id holds. */
function filterOf(id: string): Fields {
  try {
    return JSON.parse(Buffer.from(id.slice(id.indexOf('.') + 1), 'base64url').toString()) as Fields
  } catch {
    throw noSubscription(id)
  }
}
