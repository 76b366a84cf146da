// Calls over a link: numbers them, matches answers, and turns failures into errors and back. Knows no method's meaning.

import { ApiError, type ErrorCode, errorCodes, messageOf } from '../errors.ts'
import type { Link } from './link.ts'
import { packAnswer, unpackAnswer } from './pack.ts'
import type { CallError, GuestCalls, HostCalls } from './protocol.ts'

type Method = keyof HostCalls | keyof GuestCalls

interface Waiting {
  method: Method
  resolve(value: unknown): void
  reject(error: Error): void
}

/** The calls one side has made and not yet heard back from. */
export interface Calls {
  make(method: Method, params: unknown): Promise<unknown>
  settle(answer: { call: number; value?: unknown; error?: CallError }, body?: Uint8Array): void
  /** Rejects everything that is open. */
  abandon(error: Error): void
  readonly size: number
}

interface CallMessage {
  type: 'call'
  call: number
  method: never
  params: unknown
}
interface AnswerMessage {
  type: 'result'
  call: number
  value: unknown
}
interface FailureMessage {
  type: 'failure'
  call: number
  error: CallError
}

/** Makes calls over `link`; the owner hands `result` and `failure` messages to `settle`. */
export function createCalls(link: Link<CallMessage, never>): Calls {
  const open = new Map<number, Waiting>()
  let next = 1
  return {
    make: (method, params) =>
      new Promise((resolve, reject) => {
        const call = next++
        open.set(call, { method, resolve, reject })
        link.send({ type: 'call', call, method: method as never, params })
      }),
    settle: (answer, body) => {
      const waiting = open.get(answer.call)
      if (!waiting) return
      open.delete(answer.call)
      if (answer.error) waiting.reject(errorOf(answer.error))
      else waiting.resolve(unpackAnswer(waiting.method, answer.value, body))
    },
    abandon: (error) => {
      for (const waiting of open.values()) waiting.reject(error)
      open.clear()
    },
    get size() {
      return open.size
    },
  }
}

/** Answers a call with what `work` gives, or with its failure. Never rejects. */
export async function answer(
  link: Link<AnswerMessage | FailureMessage, never>,
  call: number,
  method: Method,
  work: () => Promise<unknown>,
): Promise<void> {
  try {
    const { value, body } = packAnswer(method, await work())
    link.send({ type: 'result', call, value }, body)
  } catch (error) {
    link.send({ type: 'failure', call, error: toCallError(error) })
  }
}

const toCallError = (error: unknown): CallError =>
  error instanceof ApiError
    ? { code: error.code, message: error.message }
    : { code: 'graph_failed', message: messageOf(error) }

const isCode = (code: string): code is ErrorCode => errorCodes().some((known) => known.code === code)

const errorOf = (error: CallError): Error => new ApiError(isCode(error.code) ? error.code : 'internal', error.message)
