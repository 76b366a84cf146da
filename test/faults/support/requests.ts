// Requests as the harness's clients make them: with a time limit, over and over until somebody answers, every suspect answer
// noted. In charge of HTTP and of server-sent events; knows nothing of runs.

import { setTimeout as sleep } from 'node:timers/promises'
import { readEvents, type SeenEvent } from '../../support/events.ts'
import type { SuspectAnswer } from './history.ts'
import type { Member } from './processes.ts'

export interface Answer {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: the answers of many endpoints, of which each caller knows its own
  body: any
}

export interface Asked {
  body?: object
  headers?: Record<string, string>
  timeoutMs?: number
}

export interface Requests {
  readonly suspects: SuspectAnswer[]
  /** How many requests got no answer that counts, and were made again. */
  repeated(): number
  /** One request; throws when there is no answer. */
  once(member: Member, method: string, path: string, asked?: Asked): Promise<Answer>
  /** Asks one api after the other until one gives an answer that is no outage; undefined when `until` has passed. */
  insist(
    choose: () => Member,
    method: string,
    path: string,
    asked: Asked,
    until: () => number,
  ): Promise<Answer | undefined>
  /** Opens a stream and hands on every event; gives the status, and whether the stream came to its end by itself. Throws when
   *  nothing was answered. */
  follow(
    member: Member,
    method: string,
    path: string,
    asked: Asked & { onOpen?: (headers: Headers) => void; onEvent: (event: SeenEvent) => void },
  ): Promise<{ status: number }>
}

const PAUSE_MS = 200
const isOutage = (status: number) => status >= 500 || status === 429

export function createRequests(): Requests {
  const suspects: SuspectAnswer[] = []
  let repeated = 0

  async function send(member: Member, method: string, path: string, asked: Asked, signal: AbortSignal) {
    return fetch(`${member.url}${path}`, {
      method,
      headers: { ...(asked.body && { 'content-type': 'application/json' }), ...asked.headers },
      ...(asked.body && { body: JSON.stringify(asked.body) }),
      signal,
    })
  }
  const suspect = (member: Member, from: number, status: number, request: string, body: string) => {
    if (status >= 400)
      suspects.push({ member: member.name, from, to: Date.now(), status, request, body: body.slice(0, 2_000) })
  }

  async function once(member: Member, method: string, path: string, asked: Asked = {}): Promise<Answer> {
    const from = Date.now()
    const response = await send(member, method, path, asked, AbortSignal.timeout(asked.timeoutMs ?? 10_000))
    const text = await response.text()
    suspect(member, from, response.status, `${method} ${path}`, text)
    return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) }
  }

  return {
    suspects,
    repeated: () => repeated,
    once,
    async insist(choose, method, path, asked, until) {
      while (Date.now() < until()) {
        const answer = await once(choose(), method, path, asked).catch(() => undefined)
        if (answer !== undefined && !isOutage(answer.status)) return answer
        repeated++
        await sleep(PAUSE_MS)
      }
      return undefined
    },
    async follow(member, method, path, asked) {
      const from = Date.now()
      const left = new AbortController()
      const timer = setTimeout(() => left.abort(), asked.timeoutMs ?? 60_000)
      try {
        const response = await send(member, method, path, asked, left.signal)
        if (response.status !== 200) {
          suspect(member, from, response.status, `${method} ${path}`, await response.text())
          return { status: response.status }
        }
        asked.onOpen?.(response.headers)
        const reader = readEvents(response)
        try {
          for (let event = await reader.next(); event; event = await reader.next()) asked.onEvent(event)
        } catch {
          // It broke off: whoever follows goes on from the last id.
        }
        return { status: 200 }
      } finally {
        clearTimeout(timer)
      }
    },
  }
}
