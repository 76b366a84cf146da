// Sending one webhook, over the network or to the custom app. In charge of connecting only to addresses that may be connected to,
// looked at when the connection is made, so that a name cannot come to mean another address in between; and of an answer's bounds
// in time and size. Follows no redirect, keeps no connection, and gives nothing of what the receiver wrote to anybody.

import { lookup, Resolver } from 'node:dns/promises'
import * as http from 'node:http'
import * as https from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { ApiError } from '../errors.ts'
import type { CustomApp } from '../executor/custom.ts'
import { hostOf, isAllowed, isOfApp } from '../runs/webhooks.ts'
import type { Answer, NoAnswer } from './webhook-verdict.ts'

/** Sends a body to a URL. Never rejects. */
export type Post = (to: {
  url: string
  headers: Readonly<Record<string, string>>
  body: string
  signal: AbortSignal
}) => Promise<Answer | NoAnswer>

/** The addresses of a name. */
export type Resolve = (name: string) => Promise<string[]>

const TIMEOUT_MS = 15_000
const MAX_ANSWER_BYTES = 64 * 1024

class NotAllowed extends Error {}
class TooSlow extends Error {}

/** Posts to http and https URLs, and to paths of the custom app. */
export function createPost(options: {
  allowPrivate: boolean
  /** Without it, no path may be given. */
  app?: Pick<CustomApp, 'start' | 'open'> | undefined
  resolve?: Resolve
  /** For everything from looking up the name to the end of the answer. */
  timeoutMs?: number
}): Post {
  const { app, allowPrivate, timeoutMs = TIMEOUT_MS } = options
  const resolve = options.resolve ?? (allowPrivate ? resolveAsSystem : resolveInDns)

  // Node asks this for names only, each time it connects, and connects to nothing else than what it is given.
  const lookupAllowed: LookupFunction = (name, how, callback) => {
    resolve(name.replace(/\.$/, '')).then(
      (addresses) => {
        const found = addresses.filter((address) => isAllowed(address, allowPrivate))
        const [first] = found
        if (first === undefined) callback(new NotAllowed(), '')
        else if (how.all)
          callback(
            null,
            found.map((address) => ({ address, family: isIP(address) })),
          )
        else callback(null, first, isIP(first))
      },
      (error: NodeJS.ErrnoException) => callback(error, ''),
    )
  }

  // A connection of its own each time: one that was kept may be closed at its other end, and names are looked up anew.
  const toNetwork = (url: string, options: http.RequestOptions): http.ClientRequest => {
    const target = new URL(url)
    const host = hostOf(target)
    if (isIP(host) !== 0 && !isAllowed(host, allowPrivate)) throw new NotAllowed()
    const { request } = target.protocol === 'https:' ? https : http
    return request(target, { ...options, lookup: lookupAllowed })
  }

  // The app's own process: the server's routes are not on this way.
  const socketOfApp = async (): Promise<string> => {
    await app?.start()
    const instance = await app?.open()
    if (instance === undefined) throw new ApiError('app_unavailable', 'This server has no custom app (http.app).')
    return instance.socketPath
  }

  return async ({ url, headers, body, signal }) => {
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(new TooSlow()), timeoutMs)
    const options = { method: 'POST', headers, agent: false, signal } as const
    try {
      const request = isOfApp(url)
        ? http.request({ ...options, socketPath: await within(socketOfApp(), late.signal), path: url })
        : toNetwork(url, options)
      late.signal.addEventListener('abort', () => request.destroy(late.signal.reason))
      return await answerOf(request, body)
    } catch (error) {
      return reasonOf(error as Error, timeoutMs)
    } finally {
      clearTimeout(timer)
    }
  }
}

const within = <T>(work: Promise<T>, signal: AbortSignal): Promise<T> =>
  new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason))
    work.then(resolve, reject)
  })

/** Sends the request. Rejects where no answer begins. */
function answerOf(request: http.ClientRequest, body: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let answer: Answer | undefined
    let failure: Error = new Error('closed')
    request.on('response', (response) => {
      // The status says it all: the rest is heard out, within bounds, because some servers take it ill otherwise.
      answer = { status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'] }
      let left = MAX_ANSWER_BYTES
      response.on('data', (chunk: Buffer) => {
        left -= chunk.length
        if (left <= 0) request.destroy()
      })
      response.on('error', () => {})
    })
    request.on('error', (error) => {
      failure = error
    })
    request.on('close', () => (answer === undefined ? reject(failure) : resolve(answer)))
    request.end(body)
  })
}

/** As every program of this machine does, with its hosts file and search domains. */
const resolveAsSystem: Resolve = async (name) => (await lookup(name, { all: true })).map(({ address }) => address)

/** In the DNS alone. The system's way would hold one of Node's few threads for as long as a name server is silent, and files
 *  and other lookups wait behind it. */
const resolveInDns: Resolve = async (name) => {
  const resolver = new Resolver({ timeout: 3_000, tries: 2 })
  const found = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)])
  const addresses = found.flatMap((each) => (each.status === 'fulfilled' ? each.value : []))
  const failed = found.find((each) => each.status === 'rejected')
  if (addresses.length === 0 && failed !== undefined) throw failed.reason
  return addresses
}

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refused the connection',
  ECONNRESET: 'closed the connection without an answer',
  EPIPE: 'closed the connection without an answer',
  ENOTFOUND: 'was not found in the DNS',
  ENODATA: 'was not found in the DNS',
  ESERVFAIL: 'was not found in the DNS',
  ETIMEOUT: 'was not found in the DNS in time',
  EAI_AGAIN: 'was not found in the DNS in time',
  ETIMEDOUT: 'could not be reached',
  EHOSTUNREACH: 'could not be reached',
  ENETUNREACH: 'could not be reached',
}

function reasonOf(error: NodeJS.ErrnoException, timeoutMs: number): NoAnswer {
  if (error instanceof NotAllowed) {
    const reason =
      'The receiver is in a private network or on this machine, which is not allowed here (HEDDLE_WEBHOOK_ALLOW_PRIVATE).'
    return { reason, final: true }
  }
  if (error instanceof TooSlow)
    return { reason: `The receiver did not answer within ${timeoutMs / 1_000} s.`, final: false }
  if (error instanceof ApiError) return { reason: error.message, final: false }
  const code = error.code ?? 'unknown error'
  const isTls = /CERT|TLS|SSL|SELF_SIGNED|SIGNATURE|EPROTO/.test(code)
  const what = words[code] ?? (isTls ? `could not be trusted (${code})` : `could not be talked to (${code})`)
  return { reason: `The receiver ${what}.`, final: false }
}
