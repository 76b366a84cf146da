import { expect, test } from 'vitest'
import { parseAesKeys } from '../../src/aes-keys.ts'
import { executorVariables, readEnvironment } from '../../src/config.ts'

const bytes = (size: number, fill = 7) => Buffer.alloc(size, fill)
const base64 = (size: number, fill = 7) => bytes(size, fill).toString('base64')

test.each([16, 24, 32])('a text of %i bytes is a key as it is, as the platform has it', (size) => {
  const text = 'k:,'.padEnd(size, 'x')
  expect(parseAesKeys(text)).toEqual([{ id: 'default', bytes: Buffer.from(text) }])
})

test('32 bytes may come as base64, with and without padding, and as base64url', () => {
  const wild = Buffer.from(Array.from({ length: 32 }, (_, i) => 255 - i))
  for (const text of [wild.toString('base64'), wild.toString('base64url'), wild.toString('base64').replace('=', '')])
    expect(parseAesKeys(text)).toEqual([{ id: 'default', bytes: wild }])
})

test('several keys have names, and the first one writes', () => {
  expect(parseAesKeys(`2027:${base64(32, 1)}, old-1:${base64(16, 2)},x:${base64(24, 3)}`)).toEqual([
    { id: '2027', bytes: bytes(32, 1) },
    { id: 'old-1', bytes: bytes(16, 2) },
    { id: 'x', bytes: bytes(24, 3) },
  ])
})

test.each([
  ['too short', 'short', 'must be a key of 16, 24 or 32 bytes'],
  ['too long', 'x'.repeat(33), 'must be a key of 16, 24 or 32 bytes'],
  [
    'a named key that is no base64',
    `a:${base64(32)},b:${'!'.repeat(43)}`,
    'the key "b" is not 16, 24 or 32 bytes of base64',
  ],
  ['a named key of a wrong length', `a:${base64(20)}`, 'the key "a" is not 16, 24 or 32 bytes of base64'],
  ['a name twice', `a:${base64(32)},a:${base64(32, 2)}`, 'must not name two keys "a"'],
])('%s stops the start with the name of the variable, and is not printed', (_, value, words) => {
  const start = () => readEnvironment({ LANGGRAPH_AES_KEY: value })
  expect(start).toThrow(`The environment variable LANGGRAPH_AES_KEY ${words.startsWith('must') ? words : 'must be'}`)
  expect(start).toThrow(words)
  expect(start).not.toThrow(value)
})

test('graph code never gets the key', () => {
  const key = { LANGGRAPH_AES_KEY: 'x'.repeat(32) }
  expect(executorVariables({ ...key, A: '1' }, key)).toEqual({ A: '1' })
  expect(readEnvironment(key).server.aesKeys).toEqual([{ id: 'default', bytes: Buffer.from('x'.repeat(32)) }])
  expect(readEnvironment({}).server).not.toHaveProperty('aesKeys')
})
