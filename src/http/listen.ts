// Listening. In charge of the Node server and its limits: slow headers, idle connections, and an orderly end.

import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener, RequestError } from '@hono/node-server'
import { ApiError, ConfigError, messageOf } from '../errors.ts'
import type { Http, NodeBindings } from './app.ts'
import { createSockets, type Handshake, type Socket } from './sockets.ts'

export interface Listening {
  url: string
  port: number
  /** Stops taking requests, ends idle connections, and after `graceMs` the others. */
  close(graceMs: number): Promise<void>
}

/** Starts to listen; port 0 takes a free one. Throws `ConfigError` when it cannot. */
export async function listen(
  http: Http,
  { host, port, maxMessageBytes = 64 * 1024 * 1024 }: { host: string; port: number; maxMessageBytes?: number },
): Promise<Listening> {
  const sockets = createSockets({ maxMessageBytes })
  const arrivals = createArrivals()
  const fetch = (request: Request, node: unknown) => http.fetch(request, node as NodeBindings)
  const listener = getRequestListener(
    (request, node) => {
      const over = arrivals.over()
      return over === undefined ? fetch(request, node) : over.then(() => fetch(request, node))
    },
    { overrideGlobalObjects: false, errorHandler: refusal },
  )
  const server: Server = createServer(
    { headersTimeout: 15_000, requestTimeout: 60_000, connectionsCheckingInterval: 5_000, keepAliveTimeout: 75_000 },
    listener,
  )
  server.on('connection', arrivals.seen)
  server.on('upgrade', (incoming, socket, head) =>
    sockets.accept(incoming, socket, head, () => handshake(http, incoming)),
  )
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new ConfigError(`Cannot listen on ${host}:${port}: ${messageOf(error)}.`)))
    server.listen({ host, port }, resolve)
  })
  const address = server.address() as AddressInfo
  const name = host.includes(':') ? `[${host}]` : host
  return {
    url: `http://${name}:${address.port}`,
    port: address.port,
    async close(graceMs) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeIdleConnections()
      sockets.close()
      const timer = setTimeout(() => server.closeAllConnections(), graceMs)
      await closed
      clearTimeout(timer)
    },
  }
}

/** How many turns of the event loop a request may wait for connections that arrive. */
const MAX_TURNS = 64

/** The event loop accepts one connection a turn. When many come at once, the last would wait until the requests of all before
 *  it have had their first turn, so requests begin when no connection came in a turn. */
function createArrivals(): { seen(): void; over(): Promise<void> | undefined } {
  let came = false
  let over: Promise<void> | undefined
  const wait = async () => {
    for (let turn = 0; turn < MAX_TURNS && came; turn++) {
      came = false
      // The first immediate still belongs to this turn.
      await new Promise(setImmediate)
      await new Promise(setImmediate)
    }
    came = false
    over = undefined
  }
  return {
    seen() {
      came = true
      over ??= wait()
    },
    over: () => over,
  }
}

/** Takes the way of every request: what is answered instead of a WebSocket is why there is none. */
async function handshake(http: Http, incoming: IncomingMessage): Promise<Handshake> {
  let open: ((socket: Socket) => void) | undefined
  const headers = Object.entries(incoming.headersDistinct).flatMap(([name, values]) =>
    (values ?? []).map((value): [string, string] => [name, value]),
  )
  const request = new Request(new URL(incoming.url ?? '/', 'http://localhost'), { headers })
  const response = await http.fetch(request, {
    incoming,
    upgrade: (given) => {
      open = given
    },
  })
  if (open) return { open }
  const { detail } = (await response.json().catch(() => ({}))) as { detail?: string }
  return { refuse: { status: response.status, message: detail ?? 'There is no WebSocket at this path.' } }
}

/** The answer to a request that did not become one: its target or its Host header is none. */
function refusal(thrown: unknown): Response {
  const error =
    thrown instanceof RequestError
      ? new ApiError('bad_request', 'The request target or the Host header cannot be understood.')
      : new ApiError('internal')
  const headers = { 'content-type': 'application/json', 'x-request-id': crypto.randomUUID() }
  return new Response(JSON.stringify({ detail: error.message, code: error.code }), { status: error.status, headers })
}
