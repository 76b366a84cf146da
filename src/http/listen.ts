// Listening. In charge of the Node server and its limits: slow headers, idle connections, and an orderly end.

import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener, RequestError } from '@hono/node-server'
import { ApiError, ConfigError, messageOf } from '../errors.ts'
import type { Http, NodeBindings } from './app.ts'

export interface Listening {
  url: string
  port: number
  /** Stops taking requests, ends idle connections, and after `graceMs` the others. */
  close(graceMs: number): Promise<void>
}

/** Starts to listen; port 0 takes a free one. Throws `ConfigError` when it cannot. */
export async function listen(http: Http, { host, port }: { host: string; port: number }): Promise<Listening> {
  const listener = getRequestListener((request, node) => http.fetch(request, node as unknown as NodeBindings), {
    overrideGlobalObjects: false,
    errorHandler: refusal,
  })
  const server: Server = createServer(
    { headersTimeout: 15_000, requestTimeout: 60_000, connectionsCheckingInterval: 5_000, keepAliveTimeout: 75_000 },
    listener,
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
      const timer = setTimeout(() => server.closeAllConnections(), graceMs)
      await closed
      clearTimeout(timer)
    },
  }
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
