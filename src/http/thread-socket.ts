// The thread protocol on a WebSocket. In charge of frames that come and go, and of subscriptions; what a command does is the
// dispatcher's. Subscriptions are named by what they are, so that any process can bring them back.

import type { CommandResponse } from '../contract/commands.ts'
import { explain, problemOf } from '../contract/problem.ts'
import { type EventSubscription, subscription } from '../contract/thread-events.ts'
import { ApiError } from '../errors.ts'
import { CommandError } from '../runs/command.ts'
import { refused } from '../runs/commands.ts'
import type { Session } from '../runs/session.ts'
import { parseStrict } from './scan.ts'
import { closeCodeOf, type Socket } from './sockets.ts'

export interface ThreadSocketDeps {
  session: Session
  /** Answers what is not about the connection's subscriptions. */
  dispatch(command: unknown): Promise<CommandResponse>
  /** Told why the log could not be read. */
  failed(error: unknown): void
}

type Fields = Record<string, unknown>

/** How many subscriptions a connection may have. */
const MAX_SUBSCRIPTIONS = 100

/** Serves a connection until it ends. */
export function serveThreadSocket(socket: Socket, deps: ThreadSocketDeps): void {
  const { session } = deps
  let count = 0
  const answer = (response: unknown): void => void socket.send(JSON.stringify(response))

  async function pump(): Promise<void> {
    try {
      const frames = session.frames()
      socket.signal.addEventListener('abort', () => void frames.return())
      for await (const { data } of frames) {
        const room = socket.send(data)
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
    const parsed = subscription.safeParse(params, { error: explain })
    if (parsed.success) return parsed.data
    throw new CommandError('invalid_argument', problemOf('params', parsed.error).detail)
  }

  // Answered in order with the events: before what is subscribed to.
  function subscribe(id: number, params: unknown): void {
    const { since, ...wanted } = wantedOf(params)
    if (session.size() >= MAX_SUBSCRIPTIONS)
      throw new CommandError(
        'invalid_argument',
        `A connection may have ${MAX_SUBSCRIPTIONS} subscriptions: end one first.`,
      )
    const subscription_id = `${++count}.${Buffer.from(JSON.stringify(wanted)).toString('base64url')}`
    const begin = () => answer({ type: 'success', id, result: { subscription_id } })
    session.subscribe(subscription_id, wanted, { since, begin })
  }

  /** What was missed is told by the dispatcher; the subscriptions that are named go on after it. */
  async function reconnect(command: Fields, { last_event_id, subscriptions: names }: Fields): Promise<void> {
    const since = Number(/\d+$/.exec(String(last_event_id ?? ''))?.[0] ?? 0)
    const wanted = Array.isArray(names)
      ? names.map((name) => [String(name), wantedOf({ ...filterOf(String(name)), since })] as const)
      : []
    const response = await deps.dispatch(command)
    if (response.type === 'error' || wanted.length === 0) return answer(response)
    for (const [i, [name, { since: after, ...filter }]] of wanted.entries())
      session.subscribe(name, filter, { since: after, ...(i === 0 && { begin: () => answer(response) }) })
  }

  async function take(command: unknown): Promise<void> {
    const { id, method, params } = fieldsOf(command)
    const given = fieldsOf(params)
    if (isUint(id) && method === 'subscription.subscribe') subscribe(id, given)
    else if (isUint(id) && method === 'subscription.unsubscribe') {
      const { subscription_id } = given
      if (!session.unsubscribe(String(subscription_id))) throw noSubscription(subscription_id)
      answer({ type: 'success', id, result: {} })
    } else if (method === 'subscription.reconnect') await reconnect(fieldsOf(command), given)
    else answer(await deps.dispatch(command))
  }

  async function hear(text: string): Promise<void> {
    let command: unknown
    try {
      command = parseStrict(Buffer.from(text), text)
      await take(command)
    } catch (error) {
      const { id } = fieldsOf(command)
      if (!(error instanceof ApiError || error instanceof CommandError)) deps.failed(error)
      answer(refused(isUint(id) ? id : null, error))
    }
  }

  socket.onText(hear)
  void pump()
}

const fieldsOf = (value: unknown): Fields => (typeof value === 'object' && value !== null ? (value as Fields) : {})

const isUint = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= 0

const noSubscription = (id: unknown): CommandError =>
  new CommandError('no_such_subscription', `There is no subscription ${String(id).slice(0, 200)}.`)

/** The filter that a subscription's id holds. */
function filterOf(id: string): Fields {
  try {
    return JSON.parse(Buffer.from(id.slice(id.indexOf('.') + 1), 'base64url').toString()) as Fields
  } catch {
    throw noSubscription(id)
  }
}
