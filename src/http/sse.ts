// Writes a stream of server-sent events. In charge of framing, joining events that come together into one chunk,
// heartbeats, backpressure, and of letting go of the source when the reader has gone or has stopped reading.

import type { ServerResponse } from 'node:http'
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
const UNREAD_BYTES = 1024 * 1024
const STALLED_MS = 30_000
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
  const { unreadBytes = UNREAD_BYTES, signal, cut } = options
  let stream: EventStream | undefined
  const leave = () => {
    signal?.removeEventListener('abort', hangUp)
    stream?.leave()
  }
  let hangUp = leave
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        if (signal?.aborted) {
          unread(source)
          return controller.close()
        }
        stream = new EventStream(source, options, {
          room: () => controller.desiredSize ?? 0,
          write: (bytes) => controller.enqueue(bytes),
          end() {
            signal?.removeEventListener('abort', hangUp)
            controller.close()
          },
          breakOff() {
            signal?.removeEventListener('abort', hangUp)
            if (cut) cut()
            else controller.error(new Error('The stream broke off. Resume it with Last-Event-ID.'))
          },
        })
        hangUp = () => {
          leave()
          controller.close()
        }
        signal?.addEventListener('abort', hangUp)
      },
      pull: () => stream?.drained(),
      cancel: leave,
    },
    { highWaterMark: unreadBytes, size: (chunk) => chunk.byteLength },
  )
}

/** Writes the events of a source to a response of Node's whose head is written: to rest there costs less than in a stream. */
export function writeEvents(source: SseSource, outgoing: ServerResponse, options: SseOptions = {}): void {
  if (outgoing.destroyed) {
    unread(source)
    return
  }
  const out = new NodeOut(outgoing, options.unreadBytes ?? UNREAD_BYTES)
  const stream = new EventStream(source, options, out)
  outgoing.on('drain', () => {
    out.drain()
    if (out.room() > 0) stream.drained()
  })
  outgoing.on('close', () => stream.leave())
}

/** Ends what nobody will read. It is begun first: a generator that never began would not close what it was given. */
function unread(source: SseSource): void {
  const events = (typeof source === 'function' ? source(AbortSignal.abort()) : source)[Symbol.asyncIterator]()
  events.next().catch(() => {})
  events.return?.().catch(() => {})
}

/** Where the bytes of a stream go. */
interface Out {
  /** How many more may wait there to be read. */
  room(): number
  write(bytes: Uint8Array): void
  /** Ends it, after what waits. */
  end(): void
  /** Ends it so that nobody takes what came for all. */
  breakOff(): void
}

/** Hands over a piece when the one before was taken, as a stream would. */
class NodeOut implements Out {
  #outgoing: ServerResponse
  #room: number
  #waiting: Uint8Array[] | undefined

  constructor(outgoing: ServerResponse, unreadBytes: number) {
    this.#outgoing = outgoing
    this.#room = unreadBytes
  }

  room(): number {
    return this.#room
  }

  write(bytes: Uint8Array): void {
    if (this.#waiting) {
      this.#waiting.push(bytes)
      this.#room -= bytes.byteLength
    } else if (!this.#outgoing.destroyed && !this.#outgoing.write(bytes)) this.#waiting = []
  }

  drain(): void {
    for (let bytes = this.#waiting?.shift(); bytes !== undefined; bytes = this.#waiting?.shift()) {
      this.#room += bytes.byteLength
      if (!this.#outgoing.write(bytes)) return
    }
    this.#waiting = undefined
  }

  end(): void {
    for (const bytes of this.#waiting ?? []) this.#outgoing.write(bytes)
    this.#waiting = undefined
    this.#outgoing.end()
  }

  breakOff(): void {
    this.#outgoing.destroy()
  }
}

/** One stream. Writes the first frame at once, those that follow in the same turn of the event loop together at its end. */
class EventStream {
  #out: Out
  #options: SseOptions
  #events: AsyncIterator<SseEvent>
  #gone: AbortController | undefined
  #over = false
  #joined = ''
  #turn: NodeJS.Immediate | undefined
  #lastWrite = performance.now()
  #waiting: (() => void) | undefined
  #heart: NodeJS.Timeout
  #stallTimer: NodeJS.Timeout | undefined

  constructor(source: SseSource, options: SseOptions, out: Out) {
    this.#out = out
    this.#options = options
    if (typeof source === 'function') this.#gone = new AbortController()
    const made = typeof source === 'function' ? source((this.#gone as AbortController).signal) : source
    this.#events = made[Symbol.asyncIterator]()
    this.#heart = setTimeout(EventStream.#beat, this.#heartbeatMs, this)
    void this.#pump()
  }

  /** Lets go of the source: nobody reads any more. */
  leave(): void {
    if (this.#over) return
    this.#stop()
    this.#gone?.abort()
    // a source that waits answers only after its wait, so this is not awaited
    this.#events.return?.().catch(() => {})
  }

  /** There is room again. */
  drained(): void {
    clearTimeout(this.#stallTimer)
    this.#waiting?.()
    this.#waiting = undefined
  }

  get #heartbeatMs(): number {
    return this.#options.heartbeatMs ?? 5000
  }

  async #pump(): Promise<void> {
    try {
      while (!this.#over) {
        const next = await this.#events.next()
        if (next.done || this.#over) break
        this.#write(frame(next.value))
        if (this.#out.room() <= this.#joined.length && !this.#over) await this.#room()
      }
      if (this.#over) return
      this.#flush()
      this.#stop()
      this.#out.end()
    } catch (error) {
      if (this.#over) return
      if (!(error instanceof ApiError && error.code === 'shutting_down')) this.#options.failed?.(error)
      this.#breakOff()
    }
  }

  #breakOff(): void {
    this.leave()
    this.#out.breakOff()
  }

  #write(text: string): void {
    this.#joined += text
    if (this.#turn && this.#joined.length < JOINED_CHARS) return
    this.#flush()
    this.#turn ??= setImmediate(EventStream.#endOfTurn, this)
  }

  static #endOfTurn(stream: EventStream): void {
    stream.#turn = undefined
    if (stream.#joined === '') return
    stream.#flush()
    stream.#turn = setImmediate(EventStream.#endOfTurn, stream)
  }

  #flush(): void {
    if (this.#joined === '') return
    const text = this.#joined
    this.#joined = ''
    this.#send(Buffer.from(text))
  }

  #send(bytes: Uint8Array): void {
    // in pieces, so that a slow reader's progress through one big event can be seen
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) this.#out.write(bytes.subarray(at, at + PIECE_BYTES))
    this.#lastWrite = performance.now()
  }

  static #beat(stream: EventStream): void {
    const silence = performance.now() - stream.#lastWrite
    const due = stream.#heartbeatMs
    if (silence >= due && stream.#out.room() > 0) stream.#send(HEARTBEAT)
    stream.#heart = setTimeout(EventStream.#beat, silence >= due ? due : due - silence, stream)
  }

  #room(): Promise<void> {
    this.#flush()
    this.#watch()
    return new Promise((resolve) => {
      this.#waiting = resolve
    })
  }

  #watch(): void {
    const room = this.#out.room()
    this.#stallTimer = setTimeout(() => {
      if (this.#out.room() === room) this.#breakOff()
      else this.#watch()
    }, this.#options.stalledMs ?? STALLED_MS)
  }

  /** Nothing is written after it. */
  #stop(): void {
    this.#over = true
    clearTimeout(this.#heart)
    clearTimeout(this.#stallTimer)
    clearImmediate(this.#turn)
    this.#waiting?.()
    this.#waiting = undefined
  }
}
