// Requests as no well-behaved client sends them: paths, headers and bodies go out byte for byte. In charge of reading the
// answer's head, and its body where it ends by itself.

import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'

export interface Answer {
  status: number
  headers: Record<string, string | string[] | undefined>
  /** Empty for a stream of events, which is left at once. */
  text: string
}

export interface Sent {
  method: string
  path: string
  headers?: Record<string, string>
  body?: string | Uint8Array
}

/** A sender to one server over kept connections; `close` ends them. */
export function createSender(url: string): { send(sent: Sent): Promise<Answer>; close(): void } {
  const { hostname, port } = new URL(url)
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })
  return {
    close: () => agent.destroy(),
    send: ({ method, path, headers = {}, body }) =>
      new Promise((resolve, reject) => {
        const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
        const asked = request(
          { hostname, port, agent, method, path, headers: { ...length, ...headers } },
          (response) => {
            const head = { status: response.statusCode ?? 0, headers: response.headers }
            if (response.headers['content-type']?.includes('text/event-stream')) {
              resolve({ ...head, text: '' })
              return void response.destroy()
            }
            let text = ''
            response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
            response.on('end', () => resolve({ ...head, text })).on('error', reject)
          },
        )
        asked.on('error', reject)
        asked.end(body)
      }),
  }
}

/** A socket to write to by hand, and all that came back on it. */
export async function openSocket(url: string): Promise<{ socket: Socket; received(): string; closed: Promise<void> }> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  let text = ''
  socket.on('data', (chunk) => (text += chunk.toString('latin1'))).on('error', () => {})
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()))
  await once(socket, 'connect')
  return { socket, received: () => text, closed }
}
