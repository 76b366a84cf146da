import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseAesKeys } from '../../src/aes-keys.ts'
import { createSeal, openBlob, openText, openValue, sealBlob, sealText, sealValue } from '../../src/db/seal.ts'

const key = (id: string, fill: number, size = 32) => `${id}:${Buffer.alloc(size, fill).toString('base64')}`
const sealOf = (...keys: string[]) => createSeal(parseAesKeys(keys.join(',')))
const seal = sealOf(key('a', 1))
const row = ['checkpoint_values', 'thread', '', 'messages', '1', null] as const
const text = Buffer.from('what nobody may read')

describe('a sealed value', () => {
  test.each([16, 24, 32])('comes back with a key of %i bytes, whatever it holds', (size) => {
    const other = sealOf(key('k', 9, size))
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), (bytes) => {
        expect(other.open(other.seal(bytes, row), row)).toEqual(Buffer.from(bytes))
      }),
      { numRuns: 200 },
    )
  })

  test('holds nothing of what was sealed, and never looks the same twice', () => {
    const [one, two] = [seal.seal(text, row), seal.seal(text, row)]
    expect(one.includes(text)).toBe(false)
    expect(one.equals(two)).toBe(false)
    // The version, the name of the key, and nothing else of the two is equal.
    const same = one.filter((byte, i) => byte === two[i])
    expect(same.length).toBeLessThan(12)
  })

  test('that was changed in any one bit is refused', () => {
    const sealed = seal.seal(text, row)
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed)
      changed[at] = (changed[at] as number) ^ 1
      expect(() => seal.open(changed, row), `byte ${at}`).toThrow(/does not decrypt|does not hold/)
    }
    for (let length = 0; length < sealed.length; length++)
      expect(() => seal.open(sealed.subarray(0, length), row)).toThrow('does not decrypt')
  })

  test('is refused in the place of any other row', () => {
    const sealed = seal.seal(text, row)
    for (const other of [
      ['checkpoint_values', 'other', '', 'messages', '1', null],
      ['checkpoint_values', 'thread', '', 'messages', 1, null],
      ['checkpoint_values', 'thread', '', 'messages', '1', 'null'],
      ['checkpoint_values', 'thread', '', 'messages,1', null],
      ['checkpoint_writes', 'thread', '', 'messages', '1', null],
      row.slice(0, -1),
    ])
      expect(() => seal.open(sealed, other)).toThrow('does not decrypt: it was changed, or is not that row')
  })

  test('is refused as another type', () => {
    const { type, bytes } = sealBlob({ seal }, { type: 'json', bytes: text }, row)
    expect(type).toBe('aes+json')
    expect(openBlob({ seal }, { type, bytes }, row)).toEqual({ type: 'json', bytes: text })
    expect(() => openBlob({ seal }, { type: 'aes+bytes', bytes }, row)).toThrow('does not decrypt')
  })
})

describe('keys', () => {
  test('the first writes, all read, and one that is missing is named', () => {
    const before = sealOf(key('a', 1)).seal(text, row)
    const both = sealOf(key('b', 2), key('a', 1))
    const after = both.seal(text, row)
    expect([both.open(before, row), both.open(after, row)]).toEqual([text, text])
    expect([both.isCurrent(before), both.isCurrent(after)]).toEqual([false, true])
    expect(() => sealOf(key('b', 2)).open(before, row)).toThrow(
      'is encrypted with the key "a", which LANGGRAPH_AES_KEY does not hold',
    )
    // A name that begins like another's is another.
    expect(sealOf(key('aa', 1)).isCurrent(before)).toBe(false)
  })

  test('another key of the same name opens nothing', () => {
    expect(() => sealOf(key('a', 3)).open(seal.seal(text, row), row)).toThrow('does not decrypt')
  })
})

describe('what is not encrypted', () => {
  test('is refused where there is a key, and says what to do', () => {
    const words = 'is not encrypted, and LANGGRAPH_AES_KEY is set: stop the servers and run heddle encrypt.'
    expect(() => openBlob({ seal }, { type: 'json', bytes: text }, row)).toThrow(words)
    expect(() => openText({ seal }, 'values\t{}', row)).toThrow(words)
    for (const plain of [{ a: 1 }, 'aes', [], 0, false]) expect(() => openValue({ seal }, plain, row)).toThrow(words)
    // Nobody wrote these.
    expect([openValue({ seal }, null, row), openValue({ seal }, {}, row)]).toEqual([null, {}])
  })

  test('stays as it is where there is none', () => {
    const blob = { type: 'json', bytes: text }
    expect(sealBlob({}, blob, row)).toEqual(blob)
    expect(openBlob({}, blob, row)).toEqual(blob)
    expect([sealText({}, 'x', row), openText({}, 'x', row)]).toEqual(['x', 'x'])
    expect([sealValue({}, { a: 1 }, row), openValue({}, { a: 1 }, row)]).toEqual([{ a: 1 }, { a: 1 }])
  })

  test('text and values come back as they were', () => {
    const odd = 'values\t{"a":"\ue000 \\u0000"}\n'
    expect(openText({ seal }, sealText({ seal }, odd, row), row)).toBe(odd)
    for (const value of [{ a: ['\0', '\ud800', '\ue000'] }, 'aes:x', [], 0, ''])
      expect(openValue({ seal }, sealValue({ seal }, value, row), row)).toEqual(value)
    expect(sealValue({ seal }, null, row)).toBeNull()
  })
})
