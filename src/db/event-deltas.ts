// Events whose data is a state, as the log stores them: one whole, and each after it as what changed in its text. A run that
// sends its state after every step else takes its square. In charge of both ways; what readers get is as it was sent.

import type { StreamEvent } from '../executor/protocol.ts'

/** Shorter texts are stored whole. */
const MIN_LENGTH = 4_096
/** How many events may lie between a change and what it starts from: a reader in between has to read them too. */
const MAX_DISTANCE = 1_000
/** How many states are followed in a run: its own, and those of subgraphs. */
const MAX_CHAINS = 16

interface State {
  text: string
  /** The first_seq of the row where it is whole, and its length there; what was changed since, in characters. */
  row: number
  whole: number
  changed: number
}

/** A batch as it is stored. */
export interface StoredBatch {
  batch: string
  /** The row that has to be read first. Null where the batch stands for itself. */
  base: number | null
  /** Characters of the batch as it was sent, where it is stored otherwise. */
  size: number | null
}

/** Turns the batches of one run, in order, into what is stored. `encode` prints events as a batch. */
export function createDeltas(
  encode: (events: readonly StreamEvent[]) => string,
): (events: readonly StreamEvent[], firstSeq: number) => StoredBatch & { sent: string } {
  const states = new Map<string, State>()
  return (events, firstSeq) => {
    let base: number | null = null
    const stored = events.map((event) => {
      if (!isState(event.event)) return event
      if (event.data.length < MIN_LENGTH) {
        states.delete(event.event)
        return event
      }
      const state = states.get(event.event)
      const delta = state && firstSeq - state.row <= MAX_DISTANCE ? deltaOf(state.text, event.data) : undefined
      if (!state || !delta || state.changed + delta.length > state.whole) {
        if (states.size < MAX_CHAINS || state)
          states.set(event.event, { text: event.data, row: firstSeq, whole: event.data.length, changed: 0 })
        return event
      }
      Object.assign(state, { text: event.data, changed: state.changed + delta.length })
      base = Math.min(base ?? state.row, state.row)
      return { event: event.event, data: delta }
    })
    const sent = encode(events)
    return base === null
      ? { sent, batch: sent, base, size: null }
      : { sent, batch: encode(stored), base, size: sent.length }
  }
}

const isState = (event: string): boolean => event === 'values' || event.startsWith('values|')

/** The line of a state that cannot be put together any more. */
const GONE = '__gone\tnull'

/** No JSON begins like this. */
const MARK = '~'

/** What makes `after` of `before`: how much of both ends stays, and what stands between. */
function deltaOf(before: string, after: string): string {
  const limit = Math.min(before.length, after.length)
  let prefix = common(limit, (from, to) => before.slice(from, to) === after.slice(from, to))
  // A character of two units is not cut: each text must be one by itself.
  if (isHigh(after.charCodeAt(prefix - 1))) prefix--
  const [a, b] = [before.length, after.length]
  let suffix = common(limit - prefix, (from, to) => before.slice(a - to, a - from) === after.slice(b - to, b - from))
  if (isHigh(after.charCodeAt(b - suffix - 1))) suffix--
  return `${MARK}${prefix},${suffix},${after.slice(prefix, b - suffix)}`
}

const isHigh = (unit: number): boolean => (unit & 0xfc00) === 0xd800

/** How far two texts are the same, up to `limit`; whole blocks are compared first. */
function common(limit: number, same: (from: number, to: number) => boolean): number {
  let at = 0
  for (let step = 4_096; step >= 1; step = step === 1 ? 0 : step / 16) {
    while (at + step <= limit && same(at, at + step)) at += step
  }
  return at
}

/** Puts stored batches together again, given in order from the row where the states of the first are whole. An event that
 *  starts from what is there no longer, since it is being pruned, keeps its place under a name that clients do not see. */
export function createReader(): (batch: string) => string {
  const texts = new Map<string, string>()
  const put = (line: string): string => {
    const tab = line.indexOf('\t')
    const [name, data] = [line.slice(0, tab), line.slice(tab + 1)]
    if (!isState(name)) return line
    const before = texts.get(name)
    if (data.startsWith(MARK) && before === undefined) return GONE
    const text = data.startsWith(MARK) ? apply(before as string, data) : data
    texts.set(name, text)
    return `${name}\t${text}`
  }
  return (batch) => batch.split('\n').map(put).join('\n')
}

function apply(before: string, delta: string): string {
  const first = delta.indexOf(',')
  const second = delta.indexOf(',', first + 1)
  const prefix = Number(delta.slice(1, first))
  const suffix = Number(delta.slice(first + 1, second))
  return before.slice(0, prefix) + delta.slice(second + 1) + before.slice(before.length - suffix)
}
