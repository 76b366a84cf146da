// Writes a stream of server-sent events. In charge of framing, joining events that come together into one chunk,
// heartbeats, backpressure, and of letting go of the source when the reader has gone or has stopped reading.

import { ApiError } from '../errors.ts'
import type { SseEvent, SseSource } from './reply.ts'

export interface SseOptions {
  /** Silence after which a comment is sent. */
  heartbeatMs?: number
  /** Bytes that may wait to be read; the source is not asked for more while they do. */
  unreadBytes?: number
  /** How long a reader may leave that much unread before it is dropped. It can resume by id. */
  stalledMs?: number
  /** Breaks the connection. */
  cut?: (() => void) | undefined
  /** Told why the source failed. */
  failed?: (error: unknown) => void
  /** Aborts when the client has gone. */
  signal?: AbortSignal | undefined
}

const HEARTBEAT = Buffer.from(': heartbeat\n\n')
const JOINED_CHARS = 64 * 1024
const PIECE_BYTES = 64 * 1024
// what some readers take for the end of a line; in JSON text they stand only between tokens or inside strings
const LINE_BREAK = /[\n\r\u0085\u2028\u2029]/
const LINE_BREAKS = /[\n\r\u0085\u2028\u2029]/g
const escaped = (char: string) => (char < ' ' ? ' ' : `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
const oneLine = (json: string) => (LINE_BREAK.test(json) ? json.replace(LINE_BREAKS, escaped) : json)
const UNSAFE_FIELD = /[\0\n\r]/g

/** An event in its wire form. */
export function frame({ id, event, data }: SseEvent): string {
  const named = `event: ${event.replace(UNSAFE_FIELD, ' ')}\ndata: ${oneLine(data)}\n\n`
  return id === undefined ? named : `id: ${id.replace(UNSAFE_FIELD, ' ')}\n${named}`
}

/** The bytes of the events of a source. Ends when the source ends; breaks when it fails. */
export function eventStream(source: SseSource, options: SseOptions = {}): ReadableStream<Uint8Array> {
  const { heartbeatMs = 5000, unreadBytes = 1024 * 1024, stalledMs = 30_000 } = options
  const gone = new AbortController()
  const begin = (): AsyncIterator<SseEvent> =>
    (typeof source === 'function' ? source(gone.signal) : source)[Symbol.asyncIterator]()
  let iterator: AsyncIterator<SseEvent> | undefined
  let writer: Writer | undefined

  const leave = () => {
    if (gone.signal.aborted) return
    gone.abort()
    options.signal?.removeEventListener('abort', hangUp)
    writer?.stop()
    // a source that waits answers only after its wait, so this is not awaited
    iterator?.return?.().catch(() => {})
  }
  let hangUp = leave

  const pump = async (out: Writer, events: AsyncIterator<SseEvent>, controller: Controller) => {
    try {
      while (!gone.signal.aborted) {
        const next = await events.next()
        if (next.done || gone.signal.aborted) break
        out.write(frame(next.value))
        const room = out.room()
        if (room) await room
      }
      if (gone.signal.aborted) return
      out.stop()
      controller.close()
      options.signal?.removeEventListener('abort', hangUp)
    } catch (error) {
      if (gone.signal.aborted) return
      if (!(error instanceof ApiError && error.code === 'shutting_down')) options.failed?.(error)
      leave()
      breakOff(controller)
    }
  }
  const breakOff = (controller: Controller) => {
    if (options.cut) options.cut()
    else controller.error(new Error('The stream broke off. Resume it with Last-Event-ID.'))
  }

  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        if (options.signal?.aborted) {
          gone.abort()
          unread(begin())
          return controller.close()
        }
        iterator = begin()
        writer = createWriter(controller, { heartbeatMs, stalledMs }, () => {
          leave()
          breakOff(controller)
        })
        hangUp = () => {
          if (gone.signal.aborted) return
          leave()
          controller.close()
        }
        options.signal?.addEventListener('abort', hangUp)
        void pump(writer, iterator, controller)
      },
      pull: () => writer?.drained(),
      cancel: leave,
    },
    { highWaterMark: unreadBytes, size: (chunk) => chunk.byteLength },
  )
}

/** Ends what nobody will read. It is begun first: a generator that never began would not close what it was given. */
function unread(events: AsyncIterator<SseEvent>): void {
  events.next().catch(() => {})
  events.return?.().catch(() => {})
}

type Controller = ReadableStreamDefaultController<Uint8Array>

interface Writer {
  write(frame: string): void
  /** A promise of room, where there is none now. */
  room(): Promise<void> | undefined
  drained(): void
  /** Sends what waits; nothing is written after it. */
  stop(): void
}

/** Writes frames: the first at once, those that follow in the same turn of the event loop together at its end. */
function createWriter(
  controller: Controller,
  times: { heartbeatMs: number; stalledMs: number },
  stalled: () => void,
): Writer {
  let joined = ''
  let turn: NodeJS.Immediate | undefined
  let lastWrite = performance.now()
  let waiting: (() => void) | undefined
  let stallTimer: NodeJS.Timeout | undefined
  let stopped = false

  const send = (bytes: Uint8Array) => {
    // in pieces, so that a slow reader's progress through one big event can be seen
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) controller.enqueue(bytes.subarray(at, at + PIECE_BYTES))
    lastWrite = performance.now()
  }
  const watch = (unread: number | null) => {
    stallTimer = setTimeout(() => {
      if (controller.desiredSize === unread) stalled()
      else watch(controller.desiredSize)
    }, times.stalledMs)
  }
  const flush = () => {
    if (joined === '') return
    const text = joined
    joined = ''
    send(Buffer.from(text))
  }
  const endOfTurn = () => {
    turn = undefined
    if (joined === '') return
    flush()
    turn = setImmediate(endOfTurn)
  }
  const beat = () => {
    const silence = performance.now() - lastWrite
    const full = (controller.desiredSize ?? 0) <= 0
    if (silence >= times.heartbeatMs && !full) send(HEARTBEAT)
    heart = setTimeout(beat, silence >= times.heartbeatMs ? times.heartbeatMs : times.heartbeatMs - silence)
  }
  let heart = setTimeout(beat, times.heartbeatMs)

  return {
    write(text) {
      if (stopped) return
      joined += text
      if (turn && joined.length < JOINED_CHARS) return
      flush()
      turn ??= setImmediate(endOfTurn)
    },
    room() {
      if ((controller.desiredSize ?? 0) > joined.length || stopped) return undefined
      flush()
      watch(controller.desiredSize)
      return new Promise((resolve) => {
        waiting = resolve
      })
    },
    drained() {
      clearTimeout(stallTimer)
      waiting?.()
      waiting = undefined
    },
    stop() {
      if (stopped) return
      stopped = true
      clearTimeout(heart)
      clearTimeout(stallTimer)
      clearImmediate(turn)
      try {
        flush()
      } catch {
        // the stream is closed already: no one is there to read it
      }
      waiting?.()
      waiting = undefined
    },
  }
}
