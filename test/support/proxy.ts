// A TCP proxy that can misbehave, between the server and its Postgres or Redis. In charge of what a network does: cut
// connections, refuse new ones, swallow bytes.

import { connect, createServer, type Socket } from 'node:net'

export interface TcpProxy {
  /** The given URI, through this proxy. */
  readonly uri: string
  /** Connections open now. */
  connections(): number
  /** Connections refused so far. */
  refused(): number
  /** Ends every connection; new ones are taken. */
  cut(): void
  /** Ends every connection and takes none until `mend`. */
  refuse(): void
  /** Keeps connections open and lets nothing through until `mend`. */
  freeze(): void
  /** The same for the connections that are open now; new ones work. */
  freezeOpen(): void
  mend(): void
  close(): Promise<void>
}

/** A proxy on a free port before the server that the URI names. */
export async function startProxy(uri: string, defaultPort: number): Promise<TcpProxy> {
  const target = new URL(uri)
  const pairs = new Set<[Socket, Socket]>()
  let refused = 0
  let mode: 'open' | 'refusing' | 'frozen' = 'open'
  const frozen = new WeakSet<Socket>()

  const server = createServer((near) => {
    if (mode === 'refusing') {
      refused += 1
      return near.destroy()
    }
    const far = connect(Number(target.port || defaultPort), target.hostname)
    const pair: [Socket, Socket] = [near, far]
    pairs.add(pair)
    for (const [from, to] of [pair, [far, near]] as [Socket, Socket][]) {
      from.on('data', (data) => {
        if (mode !== 'frozen' && !frozen.has(from)) to.write(data)
      })
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
  const cut = () => {
    for (const [near, far] of pairs) {
      near.destroy()
      far.destroy()
    }
  }
  return {
    uri: through.href,
    connections: () => pairs.size,
    refused: () => refused,
    cut,
    refuse: () => {
      mode = 'refusing'
      cut()
    },
    freeze: () => {
      mode = 'frozen'
    },
    freezeOpen: () => {
      for (const pair of pairs) for (const socket of pair) frozen.add(socket)
    },
    mend: () => {
      mode = 'open'
    },
    close: () => {
      cut()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}
