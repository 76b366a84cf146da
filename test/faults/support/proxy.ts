// A TCP proxy between one process and one of its servers that misbehaves as networks do. In charge of the modes, for the
// connections that are open and for new ones; knows nothing of what is said.

import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export type ProxyMode =
  | { kind: 'pass' }
  /** Every chunk, both ways, comes this much later. */
  | { kind: 'delay'; ms: number }
  /** Connections are reset, and so is every new one. */
  | { kind: 'reset' }
  /** Connections stay open, or are taken, and nothing comes through: half-open. */
  | { kind: 'blackhole' }
  /** Each connection is reset after this many more bytes from the server. */
  | { kind: 'cut'; bytes: number }
  /** The server gets everything; its answers do not come back. */
  | { kind: 'swallow' }

export interface FaultyProxy {
  /** The server's URI, through this proxy. */
  readonly uri: string
  set(mode: ProxyMode): void
  /** Passes everything again. Connections that lost bytes are reset, since a network would not go on from there. */
  mend(): void
  connections(): number
  close(): Promise<void>
}

interface Pair {
  near: Socket
  far: Socket
  /** From the server, since the mode was set. */
  bytes: number
  lossy: boolean
  /** What is late, by way; what comes behind it may not overtake it. */
  late: Record<Way, { chunks: number; last: Promise<void> }>
}

type Way = 'out' | 'back'

const inTime = () => ({ chunks: 0, last: Promise.resolve() })

/** A proxy on a free port before the server that the URI names. */
export async function startFaultyProxy(uri: string): Promise<FaultyProxy> {
  const target = new URL(uri)
  const pairs = new Set<Pair>()
  let mode: ProxyMode = { kind: 'pass' }

  const reset = (pair: Pair) => {
    pair.near.resetAndDestroy()
    pair.far.resetAndDestroy()
  }
  const resetAll = (which: (pair: Pair) => boolean = () => true) => [...pairs].filter(which).forEach(reset)

  function pass(pair: Pair, data: Buffer, way: Way): void {
    const to = way === 'out' ? pair.far : pair.near
    if (mode.kind === 'blackhole' || (mode.kind === 'swallow' && way === 'back')) {
      pair.lossy = true
      return
    }
    const late = pair.late[way]
    if (mode.kind === 'delay' || late.chunks > 0) {
      const due = performance.now() + (mode.kind === 'delay' ? mode.ms : 0)
      late.chunks++
      late.last = late.last.then(async () => {
        await sleep(Math.max(0, due - performance.now()))
        late.chunks--
        if (to.writable) to.write(data)
      })
      return
    }
    if (mode.kind === 'cut' && way === 'back') {
      pair.bytes += data.length
      const over = pair.bytes - mode.bytes
      if (over > 0) {
        // What came before the cut arrives, and then the end.
        return void to.write(data.subarray(0, data.length - over), () => reset(pair))
      }
    }
    to.write(data)
  }

  const server = createServer((near) => {
    if (mode.kind === 'reset') return void near.resetAndDestroy()
    const far = connect(Number(target.port), target.hostname)
    const pair: Pair = { near, far, bytes: 0, lossy: false, late: { out: inTime(), back: inTime() } }
    pairs.add(pair)
    near.on('data', (data) => pass(pair, data, 'out'))
    far.on('data', (data) => pass(pair, data, 'back'))
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.setNoDelay(true)
      from.on('error', () => {})
      from.on('close', () => {
        pairs.delete(pair)
        to.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const through = new URL(uri)
  through.hostname = '127.0.0.1'
  through.port = String(address && typeof address === 'object' ? address.port : 0)
  return {
    uri: through.href,
    set(next) {
      mode = next
      for (const pair of pairs) pair.bytes = 0
      if (next.kind === 'reset') resetAll()
    },
    mend() {
      mode = { kind: 'pass' }
      resetAll(({ lossy }) => lossy)
    },
    connections: () => pairs.size,
    close() {
      resetAll()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}
