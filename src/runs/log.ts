// Batches of events as the log and the bus carry them: a line per event, name, tab, data. Pure.

import type { RunError, StreamEvent, Text } from '../executor/protocol.ts'

/** An event with its place in the thread's log. */
export interface LoggedEvent extends StreamEvent {
  seq: number
  run_id: string
  /** When it was made, in milliseconds since 1970, by the clock of its worker. */
  at: number
}

/** The last event of every run in the log; its data is `{"status": …}`, with `waiting: true` and the thread's open
 *  `interrupts` where the run stopped before its graph's end. Joiners see it as `end`. */
export const END = '__end'

/** Says at the start of a run which interrupts it answers; its data is their ids. Clients of v1 do not see it. */
export const ANSWERED = '__answered'

/** Marks a root checkpoint in the log; its data is the checkpoint id. Clients do not see it. */
export const CHECKPOINT = '__checkpoint'

/** Data is one line of JSON, so neither separator can stand in it. */
export const encodeBatch = (events: readonly StreamEvent[]): string =>
  events.map(({ event, data }) => `${nameOf(event)}\t${data}`).join('\n')

/** The same in pieces where there are states, which are bytes already. */
export function encodeBytes(events: readonly StreamEvent[]): Text {
  const pieces: Uint8Array[] = []
  let text = ''
  events.forEach((one, i) => {
    text += `${i === 0 ? '' : '\n'}${nameOf(one.event)}\t`
    if (one.state === undefined) text += one.data
    else {
      pieces.push(Buffer.from(text), ...one.state)
      text = ''
    }
  })
  return pieces.length === 0 ? text : [...pieces, Buffer.from(text)]
}

const nameOf = (event: string): string => event.replace(UNSAFE_NAME, ' ')

// Namespaces have nodes' names in them, and those may be anything.
// biome-ignore lint/suspicious/noControlCharactersInRegex: exactly these are meant
const UNSAFE_NAME = /[\0-\x1f]/g

/** A run's last events as a batch: its error, where it has one, and its end. */
export function lastBatch(status: string, error: RunError | null): { batch: string; count: number } {
  const events = lastEvents(status, error)
  return { batch: encodeBatch(events), count: events.length }
}

/** A run's last events. */
export function lastEvents(status: string, error: RunError | null, waiting?: { interrupts: unknown }): StreamEvent[] {
  const end = { event: END, data: JSON.stringify({ status, ...(waiting && { waiting: true, ...waiting }) }) }
  return error === null ? [end] : [{ event: 'error', data: JSON.stringify(error) }, end]
}

/** The events of a batch after `seq`. */
export function* decodeBatch(
  of: { first_seq: number; run_id: string; at: number; batch: string },
  after: number,
): Generator<LoggedEvent, void, undefined> {
  let seq = of.first_seq
  let start = 0
  while (start <= of.batch.length) {
    const tab = of.batch.indexOf('\t', start)
    const newline = of.batch.indexOf('\n', start)
    const stop = newline === -1 ? of.batch.length : newline
    if (seq > after) {
      yield {
        seq,
        run_id: of.run_id,
        at: of.at,
        event: of.batch.slice(start, tab),
        data: of.batch.slice(tab + 1, stop),
      }
    }
    seq++
    start = stop + 1
  }
}
