// Writes JSON that takes its time: newlines (which JSON allows before a value) while it is worked out, then the text.
// In charge of heartbeats and of telling the work that the reader has gone; the headers were sent before.

import { ApiError } from '../errors.ts'

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

/** The bytes of what `work` gives, behind a newline for every `heartbeatMs` that it takes. */
export function lateStream(
  work: (signal: AbortSignal) => Promise<string>,
  options: LateOptions = {},
): ReadableStream<Uint8Array> {
  const gone = new AbortController()
  let heart: NodeJS.Timeout | undefined
  const leave = () => {
    clearInterval(heart)
    options.signal?.removeEventListener('abort', hangUp)
    gone.abort()
  }
  let hangUp = leave
  /** Undefined where the server breaks off: what is waited for goes on, and there is no answer to give. */
  const outcome = async (): Promise<string | undefined> => {
    try {
      return await work(gone.signal)
    } catch (error) {
      if (error instanceof ApiError && error.code === 'shutting_down') return undefined
      if (!(error instanceof ApiError) && !gone.signal.aborted) options.failed?.(error)
      const told = error instanceof ApiError ? error : new ApiError('internal')
      return JSON.stringify({ __error__: { error: told.code, message: told.message } })
    }
  }
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        heart = setInterval(() => {
          if ((controller.desiredSize ?? 0) > 0) controller.enqueue(NEWLINE)
        }, options.heartbeatMs ?? 5000)
        hangUp = () => {
          leave()
          controller.close()
        }
        options.signal?.addEventListener('abort', hangUp)
        if (options.signal?.aborted) hangUp()
        void outcome().then((text) => {
          if (gone.signal.aborted) return
          clearInterval(heart)
          options.signal?.removeEventListener('abort', hangUp)
          if (text === undefined) {
            if (options.cut) options.cut()
            else controller.error(new Error('The server shuts down. Ask another one.'))
            return
          }
          controller.enqueue(Buffer.from(text))
          controller.close()
        })
      },
      cancel: leave,
    },
    { highWaterMark: 1024, size: (chunk) => chunk.byteLength },
  )
}
