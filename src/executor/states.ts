// States on their way to the server: one that comes after another is sent as what changed in its text, also over the runs of a
// thread. In charge of both ends, which remember the same texts; a text is compared, never guessed, so that what graph code did
// to its state shows whatever it did.

import { changeOf } from '../changes.ts'
import { cut, joined, lengthOf, type Pieces, textOf } from '../pieces.ts'
import type { GuestMessage, StateChange, StateHead, StreamEvent } from './protocol.ts'
import { createThreadMemory, type ThreadMemory } from './thread-memory.ts'

/** The name of a run's own states, and of the one that it leaves. */
export const ROOT = 'values'

/** Shorter texts are sent whole. */
const MIN_LENGTH = 4_096
/** How many states are followed in a run: its own, and those of subgraphs. */
const MAX_STATES = 16
/** What either end remembers of the threads that ran last, in bytes. */
const MEMORY_BYTES = 16 * 1024 * 1024

/** A state of more pieces is put together. */
const MAX_PIECES = 32

const isState = (event: string): boolean => event === ROOT || event.startsWith(`${ROOT}|`)

// ------------------------------------------------------------------------------------------------ the executor's end

/** A text that was sent, with its length in UTF-8. */
export interface SentState {
  text: string
  bytes: number
}

/** Sends the states of one run. */
export interface StateSender {
  /** The body for events, and what their frame says of the states in it; `size` is what it stands for. */
  pack(events: readonly StreamEvent[]): { body: Buffer; size: number; states?: ({ at: number } & StateHead)[] }
  /** The body for the state that the run leaves. */
  packLast(text: string): { body: Buffer; state?: StateHead }
  /** The last of the run's own states that was sent. */
  last(): SentState | undefined
  /** Nothing that was packed so far is known to have been sent. */
  forget(): void
}

/** Begins with the state that the run before left, where the server remembers it too. */
export function createStateSender(before?: SentState): StateSender {
  const sent = new Map<string, SentState>(before && [[ROOT, before]])
  const remember = (event: string, text: string, bytes: number, state: StateHead, line: string) => {
    sent.set(event, { text, bytes })
    return { line, bytes, state }
  }
  const send = (event: string, text: string): { line: string; bytes?: number; state?: StateHead } => {
    const was = sent.get(event)
    const isFollowed = isState(event) && text.length >= MIN_LENGTH && (was !== undefined || sent.size < MAX_STATES)
    if (!isFollowed) return { line: text }
    const change = was && changeOf(was.text, text)
    if (!was || !change || change.middle.length > text.length / 2)
      return remember(event, text, Buffer.byteLength(text), {}, text)
    // Where each character is a byte, nothing need be counted.
    const isAscii = was.bytes === was.text.length
    const prefix = isAscii ? change.prefix : Buffer.byteLength(text.slice(0, change.prefix))
    const suffix = isAscii ? change.suffix : Buffer.byteLength(text.slice(text.length - change.suffix))
    const bytes = prefix + Buffer.byteLength(change.middle) + suffix
    return remember(event, text, bytes, { stays: { prefix, suffix } }, change.middle)
  }
  return {
    pack(events) {
      const states: ({ at: number } & StateHead)[] = []
      const lines: string[] = []
      let spared = 0
      events.forEach(({ event, data }, at) => {
        const { line, bytes, state } = send(event, data)
        lines.push(line)
        if (state === undefined) return
        states.push({ at, ...state })
        if (state.stays) spared += (bytes ?? 0) - Buffer.byteLength(line)
      })
      const body = Buffer.from(lines.join('\n'))
      return { body, size: body.length + spared, ...(states.length > 0 && { states }) }
    },
    packLast(text) {
      const { line, state } = send(ROOT, text)
      return { body: Buffer.from(line), ...(state && { state }) }
    },
    last: () => sent.get(ROOT),
    forget: () => sent.clear(),
  }
}

/** What an executor remembers of the states that its runs left. */
export const createSentStates = (): ThreadMemory<SentState> => createThreadMemory(MEMORY_BYTES, ({ bytes }) => bytes)

// ------------------------------------------------------------------------------------------------ the server's end

/** Receives the states of one run. Throws for what no state can be made of. */
export interface StateReceiver {
  /** The events of a frame. */
  unpack(head: GuestMessage & { type: 'events' }, body: Uint8Array): StreamEvent[]
  /** The state that the run leaves. */
  unpackLast(body: Uint8Array, state: StateHead | undefined): Pieces
  /** The last of the run's own states that came. */
  last(): Pieces | undefined
}

/** Begins with the state that the run before left, where it is remembered. */
export function createStateReceiver(before?: Pieces): StateReceiver {
  const received = new Map<string, Pieces>(before && [[ROOT, before]])
  const receive = (event: string, line: Uint8Array, { stays }: StateHead): { state: Pieces; change?: StateChange } => {
    // Not a part of what came with it, which would be kept with it.
    const middle = Buffer.from(line)
    if (stays === undefined) {
      const state = [middle]
      received.set(event, state)
      return { state }
    }
    const { prefix, suffix } = stays
    const was = received.get(event) ?? []
    const length = lengthOf(was)
    const [head, tail] = [cut(was, 0, prefix), cut(was, length - suffix, length)]
    if (!received.has(event) || prefix + suffix > length || isInside(tail) || isInside(cut(was, prefix, length)))
      throw new Error('Malformed frame: a state does not fit the one before.')
    const isSame = line.length === 0 && prefix + suffix === length
    const state = isSame ? was : fewer([...head, middle, ...tail])
    received.set(event, state)
    return { state, change: { before: was, prefix, suffix, middle } }
  }
  return {
    unpack({ events, states }, body) {
      const buffer = Buffer.from(body.buffer, body.byteOffset, body.length)
      if (states === undefined) {
        const lines = buffer.toString().split('\n')
        return events.map((event, i) => ({ event, data: lines[i] ?? 'null' }))
      }
      const lines = [...linesOf(buffer)]
      const heads = new Map(states.map(({ at, ...head }) => [at, head]))
      return events.map((event, i) => {
        const [line, head] = [lines[i], heads.get(i)]
        if (line === undefined || head === undefined) return { event, data: line?.toString() ?? 'null' }
        return stateEvent(event, receive(event, line, head))
      })
    },
    unpackLast: (body, state) => (state === undefined ? [body] : receive(ROOT, body, state).state),
    last: () => received.get(ROOT),
  }
}

/** Whether bytes begin in the middle of a character. */
const isInside = ([piece]: Pieces): boolean => ((piece?.[0] ?? 0) & 0xc0) === 0x80

const fewer = (pieces: Pieces): Pieces => (pieces.length > MAX_PIECES ? [joined(pieces)] : pieces)

function stateEvent(event: string, of: { state: Pieces; change?: StateChange }): StreamEvent {
  let text: string | undefined
  return {
    event,
    ...of,
    get data() {
      text ??= textOf(of.state)
      return text
    },
  }
}

/** What a server remembers of the states that runs in one executor left. */
export const createReceivedStates = (): ThreadMemory<Pieces> => createThreadMemory(MEMORY_BYTES, lengthOf)

function* linesOf(body: Buffer): Generator<Buffer> {
  for (let at = 0; at <= body.length; ) {
    const end = body.indexOf(LINE_FEED, at)
    yield body.subarray(at, end < 0 ? body.length : end)
    at = end < 0 ? body.length + 1 : end + 1
  }
}

const LINE_FEED = 0x0a
