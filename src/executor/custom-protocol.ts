// What the server and the process of the custom app say to each other: messages over the pipe, and what both must agree on of
// the requests that go over private sockets, one to the app and one back to the server.

/** A custom app as the project names it; `path` is absolute. */
export interface AppSource {
  path: string
  export: string
}

/** A route or a middleware of the app: a method or ALL, and a pattern in Hono's syntax. */
export interface AppRoute {
  method: string
  path: string
}

/** What the server says: first what to load, and once that nothing more will come. */
export type AppRequest =
  | { type: 'load'; app: AppSource; project_dir: string; folder: string; socket: string; api: string }
  /** End when what is under way is answered. */
  | { type: 'drain' }

/** What came of loading. Without routes the app gets every request. */
export type AppReport = { type: 'loaded'; routes: AppRoute[] | null } | { type: 'failed'; message: string }

/** The header that says which request of a client a relayed one, and what the app passes on of it, belongs to. Without it,
 *  nothing is passed on: webhooks reach the app and nobody else. */
export const RELAY = 'heddle-relay'

/** Of the private sockets: what clients may send, and what is added on the way. */
export const MAX_HEADER_BYTES = 32 * 1024

// A connection's own, and what the server says of one request alone.
const OWN = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
  RELAY,
])

/** The headers that go on to the other side of a relay. */
export function relayed(headers: Iterable<[string, string]>): [string, string][] {
  const all = [...headers].map(([name, value]): [string, string] => [name.toLowerCase(), value])
  const named = all.flatMap(([name, value]) => (name === 'connection' ? value.toLowerCase().split(/\s*,\s*/) : []))
  return all.filter(([name]) => !OWN.has(name) && !named.includes(name))
}

/** Raw headers of Node's as pairs. */
export const pairsOf = (raw: readonly string[]): [string, string][] =>
  Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i] as string, raw[2 * i + 1] as string])
