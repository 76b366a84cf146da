// Requests from the process of the custom app to the server, over the server's private socket. In charge of passing on what the
// app does not answer; streams both ways.

import { Agent, type IncomingMessage, request as send } from 'node:http'
import { Readable } from 'node:stream'
import type { ReadableStream as WebStream } from 'node:stream/web'
import type { Unanswered } from './custom-handler.ts'
import { pairsOf, RELAY, relayed } from './custom-protocol.ts'

/** Asks the server. `relay` names the client's request that this belongs to; with `signal` it is given up. */
export type Pass = (
  asked: Unanswered,
  options: { relay?: string | undefined; signal?: AbortSignal | undefined },
) => Promise<Response>

/** Makes the way to the server that listens at `socketPath`. */
export function createPass(socketPath: string): Pass {
  const agent = new Agent({ keepAlive: true })
  return ({ request, body }, { relay, signal }) =>
    new Promise((resolve, reject) => {
      const { pathname, search } = new URL(request.url)
      const given = relayed(request.headers).filter(([name]) => name !== 'content-length')
      const headers = Object.fromEntries(relay === undefined ? given : [...given, [RELAY, relay]])
      // Of its own accord Node frames bodies of some methods only.
      if (body !== null) headers['transfer-encoding'] = 'chunked'
      const path = pathname + search
      const options = { socketPath, agent, method: request.method, path, headers, ...(signal && { signal }) }
      const asked = send(options, (response) => resolve(responseOf(response, request.method)))
      asked.on('error', reject)
      if (body === null) asked.end()
      else if (body instanceof ArrayBuffer) asked.end(Buffer.from(body))
      else
        Readable.fromWeb(body as WebStream)
          .on('error', (error) => asked.destroy(error))
          .pipe(asked)
    })
}

const BODILESS = new Set([204, 205, 304])

function responseOf(response: IncomingMessage, method: string): Response {
  const status = response.statusCode ?? 502
  // The length is not passed on: middleware may exchange the body and keep the headers.
  const kept = relayed(pairsOf(response.rawHeaders)).filter(([name]) => name !== 'content-length' && name !== 'date')
  const isEmpty = BODILESS.has(status) || method === 'HEAD'
  if (isEmpty) response.resume()
  return new Response(isEmpty ? null : (Readable.toWeb(response) as ReadableStream), { status, headers: kept })
}
