// A way to Redis on which messages to subscribers get lost, and nothing else: what is dropped is dropped whole, so that the
// connection goes on and nobody can notice.

import { connect, createServer } from 'node:net'

export interface LossyWay {
  readonly uri: string
  /** How many messages were dropped and how many came through. */
  readonly counts: { dropped: number; passed: number }
  close(): Promise<void>
}

const MESSAGE = /[*>]3\r\n\$7\r\nmessage\r\n/

/** A proxy before the Redis of the URI; `drops` is asked about every message. */
export async function startLossyWay(uri: string, drops: () => boolean): Promise<LossyWay> {
  const target = new URL(uri)
  const counts = { dropped: 0, passed: 0 }
  const sockets = new Set<{ destroy(): void }>()
  const server = createServer((near) => {
    const far = connect(Number(target.port), target.hostname)
    let held = ''
    near.on('data', (data) => far.write(data))
    far.on('data', (data) => {
      held += data.toString('latin1')
      let through = ''
      for (let match = MESSAGE.exec(held); match !== null; match = MESSAGE.exec(held)) {
        const end = endOf(held, match.index + match[0].length)
        through += held.slice(0, match.index)
        held = held.slice(match.index)
        if (end === undefined) break
        const frame = held.slice(0, end - match.index)
        held = held.slice(frame.length)
        const isDropped = drops()
        counts[isDropped ? 'dropped' : 'passed']++
        if (!isDropped) through += frame
      }
      if (!MESSAGE.test(held)) {
        through += held
        held = ''
      }
      near.write(Buffer.from(through, 'latin1'))
    })
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one)
      one.on('error', () => {})
      one.on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  return {
    uri: `redis://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}`,
    counts,
    close() {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

/** Where the channel and the text of a message end, which begin at `at`; undefined while they are not all there. */
function endOf(text: string, at: number): number | undefined {
  let end = at
  for (let part = 0; part < 2; part++) {
    const head = /^\$(\d+)\r\n/.exec(text.slice(end, end + 20))
    if (head === null) return undefined
    end += head[0].length + Number(head[1]) + 2
  }
  return end <= text.length ? end : undefined
}
