// What a failure is called. In charge of turning anything that can be thrown into a class name and a message of bounded
// size; must never throw, because user code decides what comes in.

import { messageOf } from '../errors.ts'
import type { RunError } from './protocol.ts'

const LIMIT = 8 * 1024

/** The class name and message (at most 8 KiB) of anything thrown. */
export function describe(thrown: unknown): RunError {
  const error = nameOf(thrown)
  return { error, message: shorten(messageText(thrown)), ...(error === 'UnknownInterruptError' && refusalOf(thrown)) }
}

/** What a refused answer says besides: clients show again what waits. */
function refusalOf(thrown: unknown): Pick<RunError, 'reason' | 'interrupt_ids' | 'pending_ids'> {
  try {
    const { reason, interruptIds, pendingIds } = thrown as Record<string, unknown>
    const ids = (list: unknown) => (Array.isArray(list) ? list.map(String).slice(0, 100) : [])
    return { reason: String(reason), interrupt_ids: ids(interruptIds), pending_ids: ids(pendingIds) }
  } catch {
    return {}
  }
}

/** Where something was thrown, for logs: its stack (at most 8 KiB), or what it is called where it has none. */
export function stackOf(thrown: unknown): string {
  try {
    if (thrown instanceof Error && typeof thrown.stack === 'string') return shorten(thrown.stack)
  } catch {
    // A getter of user code that throws.
  }
  const { error, message } = describe(thrown)
  return `${error}: ${message}`
}

function nameOf(thrown: unknown): string {
  try {
    if (typeof thrown !== 'object' || thrown === null) return 'Error'
    const { name } = thrown as { name?: unknown }
    if (typeof name === 'string' && name !== '') return name.slice(0, 200)
    const className = (thrown as { constructor?: { name?: unknown } }).constructor?.name
    return typeof className === 'string' && className !== 'Object' && className !== '' ? className : 'Error'
  } catch {
    return 'Error'
  }
}

function messageText(thrown: unknown): string {
  try {
    if (typeof thrown === 'object' && thrown !== null && !(thrown instanceof Error)) {
      const { message } = thrown as { message?: unknown }
      if (typeof message === 'string') return message
      // LangGraph marks what a task threw.
      const { pregelTaskId: _, ...rest } = thrown as Record<string, unknown>
      return messageOf(rest)
    }
    return String(messageOf(thrown))
  } catch {
    return 'unknown error'
  }
}

// Cut by bytes, never in the middle of a character.
function shorten(text: string): string {
  if (text.length * 3 <= LIMIT || Buffer.byteLength(text) <= LIMIT) return text
  const bytes = Buffer.from(text.slice(0, LIMIT)).subarray(0, LIMIT - 3)
  return `${new TextDecoder().decode(bytes, { stream: true })}…`
}
