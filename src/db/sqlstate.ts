// SQLSTATE → our error, in one place. In charge of telling a database that is gone from a statement that is wrong.

import { ApiError } from '../errors.ts'

const codeOf = (error: unknown): string | undefined => {
  const code = typeof error === 'object' && error !== null ? (error as { code?: unknown }).code : undefined
  return typeof code === 'string' ? code : undefined
}

/** What is planned on the connection is of tables that have changed since, or is planned there no longer. */
const isStale = (error: unknown): boolean => ['0A000', '26000'].includes(codeOf(error) ?? '')

/** Serialization failure, deadlock, a stale plan: the transaction did nothing and may run again. */
export const isRetryable = (error: unknown): boolean =>
  ['40001', '40P01'].includes(codeOf(error) ?? '') || isStale(error)

/** The server said no to a statement; the connection is as good as before. */
export const isRefusal = (error: unknown): boolean =>
  (error as { severity?: unknown } | null)?.severity === 'ERROR' && !isGone(error) && !isStale(error)

/** A statement that was not tried, because one before it in its transaction had failed. */
export const isAftermath = (error: unknown): boolean => codeOf(error) === '25P02'

/** A unique or exclusion constraint said no; `constraint` names it. */
export const isClash = (error: unknown, constraint?: string): boolean =>
  codeOf(error) === '23505' &&
  (constraint === undefined || (error as { constraint?: string }).constraint === constraint)

/** A row that was referred to is gone (deleted at the same moment). */
export const isOrphan = (error: unknown): boolean => codeOf(error) === '23503'

/** The user of the database may not do that. */
export const isForbidden = (error: unknown): boolean => codeOf(error) === '42501'

const GONE = /^(08...|57P0[123]|53300|53400|55000)$/
const SOCKET = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH'])
const MESSAGES =
  /Connection terminated|connection error|timeout exceeded when trying to connect|not queryable|Client has encountered|Query read timeout/i

/** The connection or the server went away; nothing is wrong with the statement. */
export function isGone(error: unknown): boolean {
  const code = codeOf(error)
  if (code !== undefined && (GONE.test(code) || SOCKET.has(code))) return true
  return error instanceof Error && MESSAGES.test(error.message)
}

/** An outage that passes: what failed may be tried again as it is. */
export const isOutage = (error: unknown): boolean =>
  error instanceof ApiError && (error.code === 'database_unavailable' || error.code === 'overloaded')

/** What the caller of a statement gets: `ApiError` for an outage, or a limit that a request ran into; else the error itself. */
export function interpret(error: unknown): unknown {
  if (isGone(error))
    return new ApiError('database_unavailable', undefined, { headers: { 'retry-after': '2' }, cause: error })
  const code = codeOf(error)
  if (code === '53100' || code === '25006' || code === '53200')
    return new ApiError('database_unavailable', 'The database takes no writes now. Try again later.', { cause: error })
  if (code === '57014' || code === '55P03')
    return new ApiError('overloaded', undefined, { headers: { 'retry-after': '1' }, cause: error })
  if (code === '54001' || code === '54000' || code === '22003' || code === '22P02' || code === '22P05')
    return new ApiError('validation_failed', 'A value in the request is outside what the database can hold.', {
      cause: error,
    })
  return error
}
