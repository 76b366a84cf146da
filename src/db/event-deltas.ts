// Events whose data is a state, as the log stores them: one whole, and each after it as what changed in its text. A run that
// sends its state after every step else takes its square. In charge of both ways; what readers get is as it was sent.

import { isAscii } from 'node:buffer'
import { type Change, changed, changeOf } from '../changes.ts'
import type { StreamEvent, Text } from '../executor/protocol.ts'
import { cut, joined, lengthOf, type Pieces, textOf } from '../pieces.ts'

/** Shorter texts are stored whole. */
const MIN_LENGTH = 4_096
/** How many events may lie between a change and what it starts from: a reader in between has to read them too. */
const MAX_DISTANCE = 1_000
/** How many states are followed in a run: its own, and those of subgraphs. */
const MAX_CHAINS = 16

interface State {
  last: StreamEvent
  /** The first_seq of the row where it is whole, and its length there; what was changed since, in characters. */
  row: number
  whole: number
  changed: number
}

/** A batch as it is stored. */
export interface StoredBatch {
  batch: Text
  /** The row that has to be read first. Null where the batch stands for itself. */
  base: number | null
  /** How long the batch is as it was sent, where it is stored otherwise. */
  size: number | null
}

/** Turns the batches of one run, in order, into what is stored. `encode` prints events as a batch. */
export function createDeltas(
  encode: (events: readonly StreamEvent[]) => Text,
): (events: readonly StreamEvent[], firstSeq: number) => StoredBatch {
  const states = new Map<string, State>()
  return (events, firstSeq) => {
    let base: number | null = null
    const stored = events.map((event) => {
      if (!isState(event.event)) return event
      const size = sizeOf(event)
      if (size < MIN_LENGTH) {
        states.delete(event.event)
        return event
      }
      const state = states.get(event.event)
      const delta = state && firstSeq - state.row <= MAX_DISTANCE ? deltaOf(state.last, event) : undefined
      if (!state || !delta || state.changed + delta.length > state.whole) {
        if (states.size < MAX_CHAINS || state)
          states.set(event.event, { last: event, row: firstSeq, whole: size, changed: 0 })
        return event
      }
      Object.assign(state, { last: event, changed: state.changed + delta.length })
      base = Math.min(base ?? state.row, state.row)
      return { event: event.event, data: delta }
    })
    const batch = encode(stored)
    return base === null ? { batch, base, size: null } : { batch, base, size: batchSize(events) }
  }
}

/** How long a batch of events is when it is printed, about. */
export const batchSize = (events: readonly StreamEvent[]): number =>
  events.reduce((size, event) => size + event.event.length + 2 + sizeOf(event), -1)

// Looks at no data that would have to be made.
const sizeOf = (event: StreamEvent): number => (event.state ? lengthOf(event.state) : event.data.length)
const isState = (event: string): boolean => event === 'values' || event.startsWith('values|')

/** The line of a state that cannot be put together any more. */
const GONE = '__gone\tnull'

/** No JSON begins like this. */
const MARK = '~'

/** What makes the state of `after` of that of `before`. */
function deltaOf(before: StreamEvent, after: StreamEvent): string {
  const { change } = after
  if (change === undefined || change.before !== before.state) return printed(changeOf(before.data, after.data))
  const { before: bytes, prefix, suffix, middle } = change
  const length = lengthOf(bytes)
  return printed({
    prefix: charactersOf(cut(bytes, 0, prefix)),
    suffix: charactersOf(cut(bytes, length - suffix, length)),
    middle: textOf([middle]),
  })
}

const printed = ({ prefix, suffix, middle }: Change): string => `${MARK}${prefix},${suffix},${middle}`

/** How many characters the text of these bytes has; no piece cuts one. */
const charactersOf = (pieces: Pieces): number =>
  pieces.reduce((length, piece) => length + (isAscii(piece) ? piece.length : joined([piece]).toString().length), 0)

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
  return changed(before, {
    prefix: Number(delta.slice(1, first)),
    suffix: Number(delta.slice(first + 1, second)),
    middle: delta.slice(second + 1),
  })
}
