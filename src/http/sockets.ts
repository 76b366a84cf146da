// WebSockets on the Node server. In charge of the handshake, of pings, of backpressure and of dropping readers that do not
// read; knows nothing of what is said. A connection is refused after it was opened, by its close code, because browsers do
// not see the status of a handshake.

import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import type { ApiError } from '../errors.ts'

/** A connection as its handler sees it. */
export interface Socket {
  /** Aborts when the other side has gone. */
  readonly signal: AbortSignal
  /** Sends a text; a promise where there is no room for more now. */
  send(text: string): Promise<void> | undefined
  /** Called with each text that arrives, one after the other: the next waits for the promise. */
  onText(hear: (text: string) => Promise<void> | undefined): void
  close(code: number, reason: string): void
}

/** What becomes of a connection. */
export type Handshake = { open: (socket: Socket) => void } | { refuse: Pick<ApiError, 'status' | 'message'> }

export interface Sockets {
  /** Takes an upgrade over; `decide` says what becomes of it. */
  accept(request: IncomingMessage, socket: Duplex, head: Buffer, decide: () => Promise<Handshake>): void
  close(): void
}

export interface SocketOptions {
  maxMessageBytes: number
  /** How often a connection is asked whether it is there; it must have answered by the next time. */
  pingMs?: number
  /** Bytes that may wait to be read. */
  unreadBytes?: number
  /** How long a reader may take nothing of what waits before it is dropped. */
  stalledMs?: number
}

/** The most of a message that a connection may bring while one before is being answered. */
const MAX_WAITING = 64

/** The code for a refusal with this HTTP status. */
export const closeCodeOf = (status: number): number => 4000 + status

export function createSockets(options: SocketOptions): Sockets {
  const { pingMs = 20_000 } = options
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: options.maxMessageBytes,
  })
  const silent = new Map<WebSocket, boolean>()
  const pinger = setInterval(() => {
    for (const [socket, isSilent] of silent) {
      if (isSilent) socket.terminate()
      else {
        silent.set(socket, true)
        socket.ping()
      }
    }
  }, pingMs)
  pinger.unref()

  return {
    accept(request, duplex, head, decide) {
      duplex.on('error', () => duplex.destroy())
      const decided = decide()
      server.handleUpgrade(request, duplex, head, (socket) => {
        silent.set(socket, false)
        socket.on('pong', () => silent.set(socket, false))
        socket.on('close', () => silent.delete(socket))
        // Its close follows.
        socket.on('error', () => {})
        const wrapped = wrap(socket, options)
        decided.then(
          (handshake) => {
            if ('open' in handshake) handshake.open(wrapped)
            else wrapped.close(closeCodeOf(handshake.refuse.status), handshake.refuse.message)
          },
          () => wrapped.close(1011, 'The server failed.'),
        )
      })
    },
    close() {
      clearInterval(pinger)
      for (const socket of silent.keys()) socket.terminate()
    },
  }
}

function wrap(socket: WebSocket, { unreadBytes = 1024 * 1024, stalledMs = 30_000 }: SocketOptions): Socket {
  const gone = new AbortController()
  const waiting: string[] = []
  let hear: ((text: string) => Promise<void> | undefined) | undefined
  let hearing = false
  socket.on('close', () => gone.abort())

  const hearOn = async () => {
    if (hearing || hear === undefined) return
    hearing = true
    for (let text = waiting.shift(); text !== undefined; text = waiting.shift()) {
      if (waiting.length < MAX_WAITING && socket.isPaused) socket.resume()
      await hear(text)
    }
    hearing = false
  }
  socket.on('message', (data: Buffer) => {
    waiting.push(data.toString())
    if (waiting.length >= MAX_WAITING) socket.pause()
    void hearOn()
  })

  /** Resolves when what waits was taken; who takes nothing is dropped. */
  const room = (sent: Promise<void>): Promise<void> => {
    let left = socket.bufferedAmount
    const timer = setInterval(() => {
      if (socket.bufferedAmount === left) socket.terminate()
      left = socket.bufferedAmount
    }, stalledMs)
    timer.unref()
    return sent.finally(() => clearInterval(timer))
  }

  return {
    signal: gone.signal,
    send(text) {
      if (socket.readyState !== socket.OPEN) return undefined
      if (socket.bufferedAmount + text.length < unreadBytes) {
        socket.send(text)
        return undefined
      }
      // Resolves too when it cannot be sent any more: the close is told elsewhere.
      return room(new Promise((resolve) => socket.send(text, () => resolve())))
    },
    onText(given) {
      hear = given
      void hearOn()
    },
    close(code, reason) {
      const text = Buffer.from(reason)
      // A close frame has room for so much; a character cut in two would not be taken.
      socket.close(code, text.length <= 123 ? text : new TextDecoder().decode(text.subarray(0, 120), { stream: true }))
    },
  }
}
