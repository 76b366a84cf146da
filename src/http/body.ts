// Reads a request's body as strict JSON. In charge of the limit (counted while reading, whatever the headers say), of
// encodings and UTF-8; what the value means is for the contract.

import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { ApiError } from '../errors.ts'
import { parseStrict } from './scan.ts'

export interface Body {
  /** Undefined where there was no body. */
  value: unknown
  text: string
}

/** What is read: a request, and the Node message behind it where there is one (reading that costs less). */
export interface BodySource {
  headers: Headers
  body: () => ReadableStream<Uint8Array> | null
  incoming?: IncomingMessage | undefined
}

/** Reads the body. Throws `body_too_large`, `unsupported_media_type`, `invalid_json`, `validation_failed`. */
export async function readBody(source: BodySource, limitBytes: number): Promise<Body> {
  checkHeaders(source.headers, limitBytes)
  const bytes = source.incoming ? await readMessage(source.incoming, limitBytes) : await readStream(source, limitBytes)
  if (bytes.length === 0) return { value: undefined, text: '' }
  if (!isUtf8(bytes)) throw new ApiError('invalid_json', 'The request body is not valid UTF-8.')
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    throw new ApiError('invalid_json', 'The request body begins with a byte order mark: send it without.')
  }
  const text = bytes.toString('utf8')
  return { value: parseStrict(bytes, text), text }
}

const JSON_TYPE = /^(application\/(?:[\w.-]+\+)?json|text\/plain)$/

function checkHeaders(headers: Headers, limitBytes: number): void {
  const encoding = headers.get('content-encoding')
  if (encoding !== null && encoding.toLowerCase() !== 'identity') {
    throw new ApiError(
      'unsupported_media_type',
      'The request body must not be compressed: send it without Content-Encoding.',
    )
  }
  const declared = headers.get('content-length')
  if (declared !== null && Number(declared) > limitBytes) throw tooLarge(limitBytes)
  const type = headers.get('content-type')
  if (type === null || type === 'application/json') return
  const [media = '', ...parameters] = type
    .toLowerCase()
    .split(';')
    .map((part) => part.trim())
  const charset = parameters
    .find((parameter) => parameter.startsWith('charset='))
    ?.slice(8)
    .replaceAll('"', '')
  if (
    !JSON_TYPE.test(media) ||
    (charset !== undefined && charset !== 'utf-8' && charset !== 'utf8' && charset !== 'us-ascii')
  ) {
    throw new ApiError(
      'unsupported_media_type',
      'The request body must be JSON in UTF-8: send Content-Type: application/json.',
    )
  }
}

/** What a body over the limit is refused with. */
export const tooLarge = (limitBytes: number): ApiError =>
  new ApiError('body_too_large', `The request body is larger than the ${limitBytes} bytes that this server takes.`)
const cutShort = () => new ApiError('bad_request', 'The request body ended too early.')

function readMessage(incoming: IncomingMessage, limitBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const done = (settle: () => void) => {
      incoming.off('data', onData).off('end', onEnd).off('error', onFailure).off('close', onFailure)
      settle()
    }
    const onData = (chunk: Buffer) => {
      size += chunk.length
      if (size <= limitBytes) chunks.push(chunk)
      else done(() => reject(tooLarge(limitBytes)))
    }
    const onEnd = () => done(() => resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks, size)))
    const onFailure = () => done(() => reject(cutShort()))
    if (incoming.readableEnded) return onEnd()
    if (incoming.destroyed) return onFailure()
    incoming.on('data', onData).on('end', onEnd).on('error', onFailure).on('close', onFailure)
  })
}

async function readStream(source: BodySource, limitBytes: number): Promise<Buffer> {
  const stream = source.body()
  if (!stream) return Buffer.alloc(0)
  const chunks: Uint8Array[] = []
  let size = 0
  const reader = stream.getReader()
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw cutShort()
    })
    if (done) return Buffer.concat(chunks, size)
    size += value.byteLength
    if (size > limitBytes) {
      await reader.cancel().catch(() => {})
      throw tooLarge(limitBytes)
    }
    chunks.push(value)
  }
}
