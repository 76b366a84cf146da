// Links: what carries frames between the server and an executor. In charge of framing over a byte stream and of the
// in-process pair; knows no message and keeps no state but unsent bytes.

import type { Duplex } from 'node:stream'
import type { Frame } from './protocol.ts'

/** The largest frame either side accepts, in bytes. */
export const MAX_FRAME = 256 * 1024 * 1024

/** A two-way, ordered, reliable carrier of frames. */
export interface Link<Out, In> {
  send(head: Out, body?: Uint8Array): void
  /** Sends at once what waits for the end of this turn of the event loop. */
  flush(): void
  /** Called for every frame, in order. Set it before the turn ends in which the link was made. */
  onFrame(take: (frame: Frame<In>) => void): void
  /** Called once, when nothing more will arrive; `error` says why if it was not an orderly end. */
  onClose(take: (error?: Error) => void): void
  /** Sends what is pending, then closes. */
  close(): void
}

/** Frames over a duplex byte stream: u32 total length, u32 head length (both big endian), head as JSON, body. Writes of
 *  one tick leave together. A malformed or oversized frame closes the link with an error. */
export function createStreamLink<Out, In>(stream: Duplex): Link<Out, In> {
  let take: (frame: Frame<In>) => void = () => {}
  let closed: (error?: Error) => void = () => {}
  let failure: Error | undefined
  let corked = false
  const read = createFrameReader((head, body) => take({ head: head as In, body }))

  stream.on('data', (chunk: Buffer) => {
    try {
      read(chunk)
    } catch (error) {
      failure = error as Error
      stream.destroy()
    }
  })
  stream.on('error', (error) => {
    failure ??= error
  })
  stream.on('end', () => stream.end())
  stream.on('close', () => closed(failure))

  return {
    send: (head, body) => {
      if (stream.writableEnded || stream.destroyed) return
      if (!corked) {
        corked = true
        stream.cork()
        // One turn more than it takes: what others send at the end of this turn leaves in the same write.
        setImmediate(() =>
          setImmediate(() => {
            corked = false
            stream.uncork()
          }),
        )
      }
      stream.write(frameHead(head, body?.length ?? 0))
      if (body?.length) stream.write(body)
    },
    flush: () => {
      if (!corked) return
      stream.uncork()
      stream.cork()
    },
    onFrame: (callback) => {
      take = callback
    },
    onClose: (callback) => {
      closed = callback
    },
    close: () => void stream.end(),
  }
}

function frameHead(head: unknown, bodyLength: number): Buffer {
  const text = JSON.stringify(head)
  const length = Buffer.byteLength(text)
  const total = 4 + length + bodyLength
  if (total > MAX_FRAME) throw new Error(`A frame of ${total} bytes is larger than the ${MAX_FRAME} that are allowed.`)
  const buffer = Buffer.allocUnsafe(8 + length)
  buffer.writeUInt32BE(total, 0)
  buffer.writeUInt32BE(length, 4)
  buffer.write(text, 8, 'utf8')
  return buffer
}

/** A function that takes the chunks of a byte stream and calls `take` for each whole frame. Throws on malformed ones. */
export function createFrameReader(
  take: (head: unknown, body: Uint8Array | undefined) => void,
): (chunk: Buffer) => void {
  let chunks: Buffer[] = []
  let have = 0
  let need = 4
  return (chunk) => {
    chunks.push(chunk)
    have += chunk.length
    if (have < need) return
    let buffer = chunks.length === 1 ? chunk : Buffer.concat(chunks, have)
    for (;;) {
      if (buffer.length < 4) break
      const total = buffer.readUInt32BE(0)
      if (total > MAX_FRAME || total < 4) throw new Error(`Malformed frame: a length of ${total} bytes is not allowed.`)
      if (buffer.length < 4 + total) break
      const headLength = buffer.readUInt32BE(4)
      if (headLength > total - 4) throw new Error('Malformed frame: the head is longer than the frame.')
      const head: unknown = JSON.parse(buffer.toString('utf8', 8, 8 + headLength))
      const body = headLength === total - 4 ? undefined : buffer.subarray(8 + headLength, 4 + total)
      buffer = buffer.subarray(4 + total)
      take(head, body)
    }
    chunks = buffer.length ? [buffer] : []
    have = buffer.length
    need = have >= 4 ? 4 + buffer.readUInt32BE(0) : 4
  }
}

/** Two linked ends in one process. Heads are copied, as over a pipe, so that neither side can change the other's values;
 *  bodies are passed as they are and must not be changed after sending. Frames arrive in a later microtask. */
export function createLinkPair<A, B>(): [Link<A, B>, Link<B, A>] {
  const a = createEnd<A, B>()
  const b = createEnd<B, A>()
  a.connect(b.receive, b.finish)
  b.connect(a.receive, a.finish)
  return [a.link, b.link]
}

function createEnd<Out, In>() {
  let take: (frame: Frame<In>) => void = () => {}
  let closed: () => void = () => {}
  let deliver: (frame: Frame<Out>) => void = () => {}
  let finishOther: () => void = () => {}
  let open = true
  const finish = () => {
    if (!open) return
    open = false
    queueMicrotask(() => closed())
    finishOther()
  }
  const link: Link<Out, In> = {
    send: (head, body) => {
      if (!open) return
      const copy = JSON.parse(JSON.stringify(head)) as Out
      queueMicrotask(() => deliver({ head: copy, body }))
    },
    flush: () => {},
    onFrame: (callback) => {
      take = callback
    },
    onClose: (callback) => {
      closed = callback
    },
    close: finish,
  }
  const connect = (to: (frame: Frame<Out>) => void, finishIt: () => void) => {
    deliver = to
    finishOther = finishIt
  }
  return { link, connect, receive: (frame: Frame<In>) => take(frame), finish }
}
