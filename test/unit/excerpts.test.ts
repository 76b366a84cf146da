// Excerpts: what is taken from a value comes back byte for byte, and what is not worth it is left alone.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createExcerpts, excerptOf, restore } from '../../src/db/excerpts.ts'

const bytes = (text: string) => Buffer.from(text)
const whole = (write: Uint8Array, value: Uint8Array) => {
  const excerpt = excerptOf(write, value)
  return excerpt && Buffer.from(restore(excerpt, value)).toString()
}

const said = 'What was said is long enough to be worth the trouble, and is said only once: 0123456789.'
const message = (fields: object) => ({ $heddle: 'AIMessage', v: fields })

test.each([
  ['the whole value', said, said],
  ['an element of a list', [said], ['before', said, 'after']],
  ['a message that got its id', [message({ content: said })], [message({ id: 'm1', content: said })]],
  ['a message as the client sent it', [{ role: 'user', content: said }], [message({ content: said })]],
])('%s is stored as little more than where it stands', (_, write, value) => {
  const [ours, theirs] = [JSON.stringify(write), JSON.stringify(value)]
  expect(whole(bytes(ours), bytes(theirs))).toBe(ours)
  expect(excerptOf(bytes(ours), bytes(theirs))?.length).toBeLessThan(60)
})

test.each([
  ['is short', 'yes', 'yes'],
  ['stands elsewhere', said, said.toUpperCase()],
  ['is a small part of what would have to be read for it', said, said + 'x'.repeat(8 * said.length)],
  ['ends otherwise', `${said}, he said.`, said],
])('what %s is stored as it is', (_, write, value) => {
  expect(excerptOf(bytes(JSON.stringify(write)), bytes(JSON.stringify(value)))).toBeUndefined()
})

test('whatever was taken comes back byte for byte', () => {
  const text = fc.oneof(
    fc.string({ minLength: 0, maxLength: 200, unit: 'binary' }),
    // The same again and again, so that it is found where it does not begin.
    fc.nat(3_000).map((length) => 'ab'.repeat(length)),
    fc.nat(3_000).map((length) => 'x'.repeat(length)),
  )
  let taken = 0
  fc.assert(
    fc.property(text, text, text, text, text, (a, b, common, c, d) => {
      const [write, value] = [bytes(a + common + b), bytes(c + common + d)]
      const excerpt = excerptOf(write, value)
      if (excerpt === undefined) return
      taken++
      expect(excerpt.length).toBeLessThan(write.length)
      expect(Buffer.from(restore(excerpt, value)).equals(write)).toBe(true)
    }),
    { numRuns: 2_000 },
  )
  expect(taken).toBeGreaterThan(20)
})

test('an excerpt that does not fit its value is refused', () => {
  const excerpt = excerptOf(bytes(said), bytes(said)) as Uint8Array
  expect(() => restore(excerpt, bytes(said.slice(1)))).toThrow('A stored write does not fit its value.')
})

test('only a value of the next checkpoint, in the same entry, namespace and channel, is taken from', () => {
  const blob = { type: 'json', bytes: bytes(JSON.stringify(said)) }
  const at = { thread_id: 't', checkpoint_ns: 'n', checkpoint_id: 'c2', parent_checkpoint_id: 'c1' }
  const put = { ...at, checkpoint: {}, metadata: {}, values: [] }
  const stored = createExcerpts([{ i: 1, put, value: { channel: 'said', version: 'v', blob } }])
  const of = { thread_id: 't', checkpoint_ns: 'n', checkpoint_id: 'c1', task_id: 'a', task_path: '', writes: [] }
  const write = { idx: 0, channel: 'said', blob }
  const { blob: found, source } = stored(1, of, write)
  expect(source).toBe('v')
  expect(Buffer.from(restore(found.bytes, blob.bytes))).toEqual(blob.bytes)
  expect(found.type).toBe('json')
  for (const [i, where, what] of [
    [2, of, write],
    [1, { ...of, thread_id: 'u' }, write],
    [1, { ...of, checkpoint_ns: '' }, write],
    [1, { ...of, checkpoint_id: 'c2' }, write],
    [1, of, { ...write, channel: 'other' }],
    // What may be replaced and restored stands for itself.
    [1, of, { ...write, idx: -1 }],
  ] as const)
    expect(stored(i, where, what)).toEqual({ blob, source: null })
})
