// States between an executor and its server: however they are sent, the server has them as they were printed.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { changed, changeOf } from '../../src/changes.ts'
import type { StreamEvent } from '../../src/executor/protocol.ts'
import { createStateReceiver, createStateSender } from '../../src/executor/states.ts'
import { type Pieces, textOf } from '../../src/pieces.ts'

/** What runs on a thread say: states that grow, are edited or are others, large and small, of several names, in frames. */
const runs = fc.array(
  fc.array(
    fc.record({
      change: fc.constantFrom('append', 'append', 'append', 'edit', 'drop', 'replace', 'same'),
      text: fc.string({ unit: 'binary', maxLength: 40 }),
      times: fc.integer({ min: 1, max: 300 }),
      name: fc.constantFrom('values', 'values', 'values', 'values|inner:1', 'updates', 'messages'),
      frame: fc.boolean(),
    }),
    { minLength: 1, maxLength: 12 },
  ),
  { minLength: 1, maxLength: 4 },
)

test('what a thread says over its runs comes as it was said, whatever changed and whichever end forgot', () => {
  let spared = 0
  const property = fc.property(runs, fc.array(fc.constantFrom('none', 'executor', 'server')), (said, forgets) => {
    let list: string[] = Array.from({ length: 120 }, (_, i) => `😀é message ${i} of this thread, long enough to matter`)
    let remembered: ReturnType<typeof ends> | undefined
    said.forEach((steps, run) => {
      const forgot = forgets[run] ?? 'none'
      const { sender, receiver } = ends(
        forgot === 'executor' ? undefined : remembered?.sender.last(),
        remembered?.receiver.last(),
        forgot === 'server',
      )
      const frames: StreamEvent[][] = [[]]
      for (const { change, text, times, name, frame } of steps) {
        if (change === 'append') list = [...list, text.repeat(times)]
        if (change === 'edit' && list.length > 0) list = list.with(times % list.length, text)
        if (change === 'drop') list = list.slice(times % 20)
        if (change === 'replace') list = [text.repeat(times)]
        frames.at(-1)?.push({ event: name, data: JSON.stringify({ list }) })
        if (frame) frames.push([])
      }
      for (const events of frames.filter(({ length }) => length > 0)) {
        const { body, size, states } = sender.pack(events)
        const names = events.map(({ event }) => event)
        const got = receiver.unpack(
          { type: 'events', run: 1, seq: 1, events: names, ...(states && { states, size }) },
          Uint8Array.from(body),
        )
        expect(got.map(({ event, data }) => ({ event, data }))).toEqual(events)
        const whole = Buffer.byteLength(events.map(({ data }) => data).join('\n'))
        expect(size).toBe(whole)
        spared += whole - body.length
      }
      const last = JSON.stringify({ list })
      const { body, state } = sender.packLast(last)
      expect(textOf(receiver.unpackLast(Uint8Array.from(body), state))).toBe(last)
      remembered = { sender, receiver }
    })
  })
  fc.assert(property, { numRuns: 300 })
  // It would pass if nothing were spared.
  expect(spared).toBeGreaterThan(1_000_000)
})

/** Both ends of a run; what either remembers of the run before is used where both do. */
function ends(
  sent: ReturnType<ReturnType<typeof createStateSender>['last']>,
  received: Pieces | undefined,
  lost: boolean,
) {
  const before = lost ? undefined : received
  return { sender: createStateSender(before && sent), receiver: createStateReceiver(before) }
}

const ascii = (length: number, last = ''): string => JSON.stringify({ list: ['x'.repeat(length), last] })

test('a state that is as it was is nothing on the way, and the same bytes', () => {
  const [sender, receiver] = [createStateSender(), createStateReceiver()]
  const { body, states } = sender.pack([{ event: 'values', data: ascii(10_000) }])
  const [event] = receiver.unpack({ type: 'events', run: 1, seq: 1, events: ['values'], states: states ?? [] }, body)
  const last = sender.packLast(ascii(10_000))
  expect(last.body.length).toBe(0)
  expect(receiver.unpackLast(last.body, last.state)).toBe(event?.state)
})

test('what could not be sent is not what the next state starts from', () => {
  const [sender, receiver] = [createStateSender(), createStateReceiver()]
  sender.pack([{ event: 'values', data: ascii(10_000) }])
  sender.forget()
  const { body, state } = sender.packLast(ascii(10_000, 'more'))
  expect(textOf(receiver.unpackLast(body, state))).toBe(ascii(10_000, 'more'))
})

test('what does not fit the state before is refused, and so is half a character', () => {
  const whole = Buffer.from(`"${'é'.repeat(3_000)}"`)
  const after = (stays: { prefix: number; suffix: number }) => () => {
    const receiver = createStateReceiver([whole.subarray(0, 2_001), whole.subarray(2_001)])
    return receiver.unpackLast(Buffer.from('x'), { stays })
  }
  expect(textOf(after({ prefix: 3, suffix: 1 })())).toBe('"éx"')
  expect(after({ prefix: 2, suffix: 1 })).toThrow('does not fit')
  expect(after({ prefix: 1, suffix: 2 })).toThrow('does not fit')
  expect(after({ prefix: whole.length, suffix: 1 })).toThrow('does not fit')
  expect(() => createStateReceiver().unpackLast(Buffer.from('x'), { stays: { prefix: 0, suffix: 0 } })).toThrow()
})

const wellFormed = (text: string): string => Buffer.from(text).toString()

test('a change makes the text after of the one before, without halves of characters', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '😀', '😁', '\u{1fa00}', '\ud83d', 'é'), maxLength: 12 })
  fc.assert(
    fc.property(text, text, text, text, (head, before, after, tail) => {
      const [from, to] = [head + before + tail, head + after + tail].map((one) => wellFormed(one)) as [string, string]
      const change = changeOf(from, to)
      expect(changed(from, change)).toBe(to)
      for (const part of [from.slice(0, change.prefix), change.middle, from.slice(from.length - change.suffix)])
        expect(wellFormed(part)).toBe(part)
    }),
    { numRuns: 3_000 },
  )
})
