// The Node server in the process of the custom app. In charge of making standard requests of Node's and of writing responses
// with backpressure; tells the app when a client has gone, and lets go of what a response still holds.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { MAX_HEADER_BYTES, pairsOf, RELAY, relayed } from './custom-protocol.ts'
import { stackOf } from './failure.ts'

/** What belongs to one request and is not for the app. */
export interface AppExchange {
  /** Which request of a client it is; absent for webhooks. */
  relay: string | undefined
  /** Aborts when the answer is over, however. */
  over: AbortSignal
}

export interface AppServer {
  listen(socketPath: string): Promise<void>
  /** Resolves when everything that came is answered; takes nothing more. */
  drain(): Promise<void>
}

/** Makes the server. What `answer` throws is logged and answered with 500. */
export function createAppServer(answer: (request: Request, exchange: AppExchange) => Promise<Response>): AppServer {
  let isDraining = false
  const limits = { headersTimeout: 0, requestTimeout: 0, keepAliveTimeout: 0, maxHeaderSize: MAX_HEADER_BYTES }
  const server: Server = createServer(limits, (incoming, outgoing) => {
    // Both ends keep connections for ever, so whoever drains has to end them.
    outgoing.on('close', () => isDraining && setImmediate(() => server.closeIdleConnections()))
    void handle(incoming, outgoing)
  })

  async function handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const gone = new AbortController()
    const over = new AbortController()
    const body = createBody(incoming)
    outgoing.on('close', () => {
      if (!outgoing.writableFinished) gone.abort()
      over.abort()
      body.drop()
    })
    try {
      const exchange = { relay: incoming.headers[RELAY] as string | undefined, over: over.signal }
      const response = await answer(requestOf(incoming, body.stream, gone.signal), exchange)
      await write(response, outgoing)
    } catch (error) {
      if (outgoing.destroyed) return
      // Where the server breaks off what was passed on, that is no failure of the app.
      if (!outgoing.headersSent || !isReset(error)) process.stderr.write(`${stackOf(error)}\n`)
      if (outgoing.headersSent) outgoing.destroy()
      else outgoing.writeHead(500, { 'content-type': 'application/json' }).end(FAILED)
    }
  }

  return {
    listen: (socketPath) =>
      new Promise((resolve, reject) => {
        server.once('error', reject)
        server.listen(socketPath, resolve)
      }),
    drain: () =>
      new Promise((resolve) => {
        isDraining = true
        server.close(() => resolve())
        server.closeIdleConnections()
      }),
  }
}

const isReset = (error: unknown): boolean => (error as NodeJS.ErrnoException | undefined)?.code === 'ECONNRESET'

const FAILED = JSON.stringify({
  detail: 'The custom app failed to answer. The log of the server says why.',
  code: 'internal',
})

function requestOf(incoming: IncomingMessage, body: ReadableStream, signal: AbortSignal): Request {
  const { method = 'GET', headers, url = '/' } = incoming
  const isFramed = headers['transfer-encoding'] !== undefined || Number(headers['content-length']) > 0
  const hasBody = isFramed && method !== 'GET' && method !== 'HEAD'
  const init = {
    method,
    headers: relayed(pairsOf(incoming.rawHeaders)),
    signal,
    ...(hasBody && { body, duplex: 'half' }),
  }
  return new Request(`http://${headers.host ?? 'localhost'}${url}`, init as RequestInit)
}

/** A body as it is asked for. Once the answer is over, what is left of it is taken and dropped, so that the connection stays good. */
function createBody(incoming: IncomingMessage): { stream: ReadableStream<Uint8Array>; drop(): void } {
  let isOver = false
  let fail: (error: Error) => void = () => {}
  const drop = () => {
    isOver = true
    fail(new Error('The request was answered before its body was read'))
    incoming.resume()
  }
  const stream = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        fail = (error) => controller.error(error)
        incoming.on('data', (chunk: Buffer) => {
          if (isOver) return
          controller.enqueue(chunk)
          incoming.pause()
        })
        incoming.on('end', () => isOver || controller.close())
        incoming.on('error', fail)
        incoming.pause()
      },
      pull: () => void incoming.resume(),
      cancel: drop,
    },
    { highWaterMark: 0 },
  )
  return { stream, drop }
}

async function write(response: Response, outgoing: ServerResponse): Promise<void> {
  const { status, headers, body } = response
  outgoing.writeHead(status, relayed(headers).flat())
  if (body === null) return void outgoing.end()
  // Who waits for events is told at once that they will come.
  outgoing.flushHeaders()
  const reader = body.getReader()
  outgoing.on('close', () => void reader.cancel().catch(() => {}))
  for (;;) {
    const { done, value } = await reader.read()
    if (done || outgoing.destroyed) break
    if (!outgoing.write(value)) await room(outgoing)
  }
  outgoing.end()
}

const room = (outgoing: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      outgoing.off('drain', done).off('close', done)
      resolve()
    }
    outgoing.on('drain', done).on('close', done)
  })
