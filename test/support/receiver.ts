// A receiver of webhooks on this machine: keeps what it is sent and answers as the test says, by path. In charge of being the
// outside world in tests of webhooks; looks at nothing of ours.

import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import { until } from './until.ts'

export interface Received {
  path: string
  method: string
  headers: IncomingHttpHeaders
  text: string
  /** The text as JSON. */
  body: Record<string, unknown>
}

/** Answers one request; without an answer, the sender waits. */
export type Answering = (response: ServerResponse, received: Received, nth: number) => void

export interface Receiver {
  /** With the host that the tests of this machine may call. */
  readonly url: string
  readonly port: number
  readonly received: readonly Received[]
  /** How requests to the path are answered from now on; 204 where nothing is said. */
  on(path: string, answer: Answering): void
  /** Resolves with what came to the path once it is so many. */
  came(path: string, count?: number, milliseconds?: number): Promise<Received[]>
  close(): Promise<void>
}

export async function startReceiver(): Promise<Receiver> {
  const received: Received[] = []
  const answers = new Map<string, Answering>()
  const to = (path: string) => received.filter((one) => one.path === path)
  const server = createServer((request, response) => {
    void readOf(request).then((one) => {
      received.push(one)
      const answer = answers.get(one.path)
      if (answer) answer(response, one, to(one.path).length)
      else response.writeHead(204).end()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    port: address.port,
    received,
    on: (path, answer) => void answers.set(path, answer),
    came: (path, count = 1, milliseconds = 15_000) =>
      until(`${count} came to ${path}`, () => (to(path).length >= count ? to(path) : undefined), milliseconds),
    close: async () => {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

async function readOf(request: IncomingMessage): Promise<Received> {
  let text = ''
  request.setEncoding('utf8')
  for await (const chunk of request) text += chunk
  const { url = '', method = '', headers } = request
  return { path: url, method, headers, text, body: text === '' ? {} : JSON.parse(text) }
}
