// The socket that pg's client talks to the embedded engine through. In charge of nothing but bytes: what the client writes in one
// go (the messages of a statement, mostly) is one call of the engine, and what that answers is one piece to read.

import { Duplex } from 'node:stream'
import type { PGlite } from '@electric-sql/pglite'

type Done = (error?: Error | null) => void

/** The last message of a client; the engine outlives its connections. */
const TERMINATE = 'X'.charCodeAt(0)

type Engine = Pick<PGlite, 'execProtocolRawStream'>

/** For a pool's `stream`; the pool must have no more than one connection at a time, because the engine has one session. */
export class EngineStream extends Duplex {
  readonly #engine: Engine

  constructor(engine: Engine) {
    super()
    this.#engine = engine
  }

  // What pg's client asks of a socket beyond a stream.
  connect(): this {
    process.nextTick(() => this.emit('connect'))
    return this
  }
  setNoDelay(): this {
    return this
  }
  setKeepAlive(): this {
    return this
  }
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: Done): void {
    void this.#exchange(bytes, done)
  }

  override _writev(chunks: readonly { chunk: Buffer }[], done: Done): void {
    void this.#exchange(Buffer.concat(chunks.map(({ chunk }) => chunk)), done)
  }

  override _read(): void {
    // What comes is pushed as it comes: the engine has no way to wait for its reader.
  }

  async #exchange(bytes: Buffer, done: Done): Promise<void> {
    if (bytes[0] === TERMINATE) {
      this.push(null)
      return done()
    }
    try {
      const answer: Buffer[] = []
      // A copy of each piece: it lies in the engine's memory, which changes with the next.
      await this.#engine.execProtocolRawStream(bytes, { onRawData: (piece) => void answer.push(Buffer.from(piece)) })
      this.push(answer.length === 1 ? answer[0] : Buffer.concat(answer))
      done()
    } catch (error) {
      done(error as Error)
    }
  }
}
