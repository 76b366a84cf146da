// Writes JSON that takes its time: newlines (which JSON allows before a value) while it is worked out, then the text.
// In charge of heartbeats and of telling the work that the reader has gone.

import type { ServerResponse } from 'node:http'
import { ApiError } from '../errors.ts'
import type { Text } from '../executor/protocol.ts'
import { bytesOf, lengthOf, textOf } from '../pieces.ts'

export interface LateOptions {
  heartbeatMs?: number
  /** Told what the work threw, where that was not meant for the client. */
  failed?: (error: unknown) => void
  /** Breaks the connection. */
  cut?: (() => void) | undefined
  /** Aborts when the client has gone. */
  signal?: AbortSignal | undefined
}

const NEWLINE = Buffer.from('\n')
const HEARTBEAT_MS = 5_000
/** What is there by then is sent in one piece, with its length; what is not gets its headers first. */
const SOON_MS = 100
const SHORT = 16 * 1024

type Work = (signal: AbortSignal) => Promise<Text>

/** What to answer. Undefined where the server breaks off: what is waited for goes on, and there is no answer to give. */
async function outcomeOf(work: Work, gone: AbortSignal, failed: LateOptions['failed']): Promise<Text | undefined> {
  try {
    return await work(gone)
  } catch (error) {
    if (error instanceof ApiError && error.code === 'shutting_down') return undefined
    if (!(error instanceof ApiError) && !gone.aborted) failed?.(error)
    const told = error instanceof ApiError ? error : new ApiError('internal')
    return JSON.stringify({ __error__: { error: told.code, message: told.message } })
  }
}

/** Answers with what `work` gives, straight to Node's response: a Response with a stream costs as much as the rest of a
 *  short request. */
export function writeLate(
  work: Work,
  outgoing: ServerResponse,
  options: Pick<LateOptions, 'heartbeatMs' | 'failed'> & { status: number; headers: Record<string, string> },
): void {
  const gone = new AbortController()
  const { status, headers } = options
  const beat = () => {
    if (outgoing.writableLength === 0) outgoing.write(NEWLINE)
  }
  let timer = setTimeout(() => {
    outgoing.writeHead(status, headers).flushHeaders()
    timer = setInterval(beat, options.heartbeatMs ?? HEARTBEAT_MS)
  }, SOON_MS)
  const leave = () => {
    clearInterval(timer)
    gone.abort()
  }
  outgoing.once('close', leave)
  if (outgoing.destroyed) leave()
  void outcomeOf(work, gone.signal, options.failed).then((text) => {
    if (gone.signal.aborted) return
    clearInterval(timer)
    outgoing.off('close', leave)
    if (text === undefined) return void outgoing.destroy()
    const pieces = bytesOf(text)
    const length = lengthOf(pieces)
    if (!outgoing.headersSent) outgoing.writeHead(status, { ...headers, 'content-length': String(length) })
    // Node sends a short text in one piece with the headers.
    if (length <= SHORT) return void outgoing.end(textOf(text))
    for (const piece of pieces) outgoing.write(piece)
    outgoing.end()
  })
}

/** The bytes of what `work` gives, behind a newline for every `heartbeatMs` that it takes. */
export function lateStream(work: Work, options: LateOptions = {}): ReadableStream<Uint8Array> {
  const gone = new AbortController()
  let heart: NodeJS.Timeout | undefined
  const leave = () => {
    clearInterval(heart)
    options.signal?.removeEventListener('abort', hangUp)
    gone.abort()
  }
  let hangUp = leave
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        heart = setInterval(() => {
          if ((controller.desiredSize ?? 0) > 0) controller.enqueue(NEWLINE)
        }, options.heartbeatMs ?? HEARTBEAT_MS)
        hangUp = () => {
          leave()
          controller.close()
        }
        options.signal?.addEventListener('abort', hangUp)
        if (options.signal?.aborted) hangUp()
        void outcomeOf(work, gone.signal, options.failed).then((text) => {
          if (gone.signal.aborted) return
          clearInterval(heart)
          options.signal?.removeEventListener('abort', hangUp)
          if (text === undefined) {
            if (options.cut) options.cut()
            else controller.error(new Error('The server shuts down. Ask another one.'))
            return
          }
          for (const piece of bytesOf(text)) controller.enqueue(piece)
          controller.close()
        })
      },
      cancel: leave,
    },
    { highWaterMark: 1024, size: (chunk) => chunk.byteLength },
  )
}
