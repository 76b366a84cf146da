// Statements that do for many what they do for one. In charge of sending together what is asked for while others of its kind are on
// their way: one round trip, one commit and one waking of the database for all of them. Nothing waits for company: what comes
// when there is room leaves with what came in the same turn of the event loop.

import { isOutage } from './sqlstate.ts'

const MAX_ITEMS = 64
/** In characters; a call that is larger goes by itself. */
const MAX_SIZE = 1_000_000
/** A statement that takes longer holds up no other: the database may be away, or the statement wait for somebody. */
const PATIENCE_MS = 1_000

/** One call that can go together with others. */
export interface Call<Item, T> {
  /** Only calls of one kind go together; it names the statement and everything in it that is the same for all. */
  kind: string
  /** Tells the call from others of its kind: of two with one name the second goes later. */
  name: string
  item: Item
  /** About how many characters it sends. */
  size: number
  /** The statement; gives what came of each, by name. Any call's may be used for those that go with it. */
  send(items: readonly Item[]): Promise<ReadonlyMap<string, T>>
}

/** Makes a call; gives what came of it, if anything did. */
export type Gather = <Item, T>(call: Call<Item, T>) => Promise<T | undefined>

interface Waiting extends Call<unknown, unknown> {
  resolve(result: unknown): void
  reject(error: unknown): void
}

interface Line {
  waiting: Waiting[]
  underWay: number
  due: boolean
}

/** One for each pool. `most` is how many statements of a kind may be under way; with more of them fewer go together. */
export function createGather(most: number): Gather {
  const lines = new Map<string, Line>()

  function depart(kind: string, line: Line, limit = most): void {
    line.due = false
    while (line.underWay < limit && line.waiting.length > 0) {
      const [now, later] = divide(line.waiting)
      line.waiting = later
      line.underWay++
      send(now, kind, line)
    }
    if (line.underWay === 0) lines.delete(kind)
  }

  function send(calls: readonly Waiting[], kind: string, line: Line): void {
    let counts = true
    const leave = (limit?: number) => {
      if (!counts) return
      counts = false
      line.underWay--
      depart(kind, line, limit)
    }
    const slow = setTimeout(() => leave(Number.POSITIVE_INFINITY), PATIENCE_MS)
    slow.unref()
    void deliver(calls).then(() => {
      clearTimeout(slow)
      leave()
    })
  }

  return <Item, T>(call: Call<Item, T>) => {
    if (call.size > MAX_SIZE) return alone(call)
    return new Promise<T | undefined>((resolve, reject) => {
      const { kind } = call
      const line = lines.get(kind) ?? { waiting: [], underWay: 0, due: false }
      lines.set(kind, line)
      line.waiting.push({ ...call, resolve, reject } as Waiting)
      if (line.due || line.underWay >= most) return
      line.due = true
      setImmediate(() => depart(kind, line))
    })
  }
}

/** Never rejects. */
async function deliver(calls: readonly Waiting[]): Promise<void> {
  const [first] = calls
  if (first === undefined) return
  try {
    const results = await first.send(calls.map(({ item }) => item))
    for (const { name, resolve } of calls) resolve(results.get(name))
  } catch (error) {
    // A statement that fails for what one of them brought must not take the others with it.
    if (calls.length > 1 && !isOutage(error)) await Promise.all(calls.map((call) => deliver([call])))
    else for (const { reject } of calls) reject(error)
  }
}

/** What goes now, and what has to wait, in order. */
function divide(waiting: readonly Waiting[]): [Waiting[], Waiting[]] {
  const names = new Set<string>()
  const [now, later]: [Waiting[], Waiting[]] = [[], []]
  let size = 0
  for (const call of waiting) {
    const fits = now.length < MAX_ITEMS && size + call.size <= MAX_SIZE && !names.has(call.name)
    ;(fits ? now : later).push(call)
    if (!fits) continue
    names.add(call.name)
    size += call.size
  }
  return [now, later]
}

/** Makes a call by itself. */
export const alone = async <Item, T>(call: Call<Item, T>): Promise<T | undefined> =>
  (await call.send([call.item])).get(call.name)

/** Makes a call, with others where the database has company for it. */
export const together = <Item, T>(db: { gather?: Gather | undefined }, call: Call<Item, T>): Promise<T | undefined> =>
  db.gather ? db.gather(call) : alone(call)
