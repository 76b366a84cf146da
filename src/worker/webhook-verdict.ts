// What the outcome of a try means for a delivery: done, given up, or when it is tried again. Pure.

import type { Tried } from '../db/webhooks.ts'

/** What a receiver answered. */
export interface Answer {
  status: number
  /** The header, where there was one. */
  retryAfter: string | undefined
}

/** Why there is no answer: a sentence that tells nothing of the network behind this server. */
export interface NoAnswer {
  reason: string
  /** It would be refused again. */
  final: boolean
}

/** How long after which try the next one comes, in seconds; after the last of them there is none. */
export const RETRY_SECONDS = [5, 30, 300, 1_800, 7_200, 18_000, 36_000] as const

/** Receivers that came to grief together do not all come back at once: a wait is up to this much longer. */
const JITTER = 0.2

const MAX_RETRY_AFTER_SECONDS = 86_400

/** `attempt` counts from 1, `random` is from 0 to 1, `now` in milliseconds. */
export function judge(outcome: Answer | NoAnswer, attempt: number, random: number, now: number): Tried {
  if ('reason' in outcome) {
    if (outcome.final) return { status: 'failed', in_seconds: 0, last_status: null, last_error: outcome.reason }
    return again(attempt, random, 0, { last_status: null, last_error: outcome.reason })
  }
  const { status, retryAfter } = outcome
  if (status >= 200 && status < 300)
    return { status: 'delivered', in_seconds: 0, last_status: status, last_error: null }
  const gone = status === 410
  const moved = status >= 300 && status < 400
  const words = { last_status: status, last_error: `The receiver answered ${status}${more(gone, moved)}.` }
  if (gone) return { status: 'failed', in_seconds: 0, ...words }
  return again(attempt, random, secondsOf(retryAfter, now), words)
}

const more = (gone: boolean, moved: boolean): string =>
  gone ? ', so nothing more is sent' : moved ? ': redirects are not followed' : ''

function again(
  attempt: number,
  random: number,
  atLeast: number,
  words: Pick<Tried, 'last_status' | 'last_error'>,
): Tried {
  const wait = RETRY_SECONDS[attempt - 1]
  if (wait === undefined) return { status: 'failed', in_seconds: 0, ...words }
  return { status: 'pending', in_seconds: Math.max(wait, atLeast) * (1 + JITTER * random), ...words }
}

/** Seconds, or a date. */
function secondsOf(retryAfter: string | undefined, now: number): number {
  if (retryAfter === undefined) return 0
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : (Date.parse(retryAfter) - now) / 1_000
  return Number.isNaN(seconds) ? 0 : Math.min(Math.max(0, seconds), MAX_RETRY_AFTER_SECONDS)
}
