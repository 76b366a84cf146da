import { Document } from '@langchain/core/documents'
import * as messages from '@langchain/core/messages'
import { ChatPromptTemplate } from '@langchain/core/prompts'
import { Command, Send } from '@langchain/langgraph'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { plain, print } from '../../src/executor/wire.ts'

const wire = (value: unknown, chunks = false): unknown => JSON.parse(print(value, { chunks }))

describe('messages are sent as plain objects with a type', () => {
  test('a human message', () => {
    expect(wire(new messages.HumanMessage({ content: 'hi', id: 'h' }))).toEqual({
      content: 'hi',
      additional_kwargs: {},
      response_metadata: {},
      type: 'human',
      id: 'h',
    })
  })

  test('an AI message with tool calls and usage, wherever it lies', () => {
    const call = { name: 'search', args: { q: 'x' }, id: 'c1', type: 'tool_call' as const }
    const message = new messages.AIMessage({
      ...{ content: [{ type: 'text', text: 'x' }], id: 'a', name: 'bot', tool_calls: [call] },
      ...{ usage_metadata: { input_tokens: 1, output_tokens: 2, total_tokens: 3 }, response_metadata: { model: 'm' } },
    })
    const printed = {
      ...{ content: [{ type: 'text', text: 'x' }], additional_kwargs: {}, response_metadata: { model: 'm' } },
      ...{ type: 'ai', name: 'bot', id: 'a', tool_calls: [call], invalid_tool_calls: [] },
      usage_metadata: { input_tokens: 1, output_tokens: 2, total_tokens: 3 },
    }
    expect(wire({ a: [new Map([['m', message]])], b: message })).toEqual({ a: [{ m: printed }], b: printed })
  })

  test('tool, chat and remove messages keep their own fields', () => {
    const tool = new messages.ToolMessage({
      content: 'r',
      tool_call_id: 'c',
      name: 't',
      status: 'error',
      artifact: { n: 1n },
    })
    expect(wire(tool)).toMatchObject({
      type: 'tool',
      tool_call_id: 'c',
      name: 't',
      status: 'error',
      artifact: { n: 1 },
    })
    expect(wire(new messages.ChatMessage({ content: 'x', role: 'judge' }))).toMatchObject({
      type: 'generic',
      role: 'judge',
    })
    expect(wire(new messages.RemoveMessage({ id: 'gone' }))).toMatchObject({ type: 'remove', id: 'gone' })
    expect(wire(new messages.HumanMessage({ content: 'x', example: true } as never))).toMatchObject({ example: true })
  })

  test('a chunk names its class in a stream of chunks, and is an ordinary message elsewhere', () => {
    const tool_call_chunks = [{ name: 't', args: '{"a":1}', id: 'c', index: 0, type: 'tool_call_chunk' as const }]
    const chunk = new messages.AIMessageChunk({ content: 'x', id: 'a', tool_call_chunks })
    const tool_calls = [{ name: 't', args: { a: 1 }, id: 'c', type: 'tool_call' }]
    expect(wire([chunk], true)).toMatchObject([{ type: 'AIMessageChunk', content: 'x', tool_call_chunks, tool_calls }])
    expect(wire([chunk])).toMatchObject([{ type: 'ai', content: 'x', tool_calls }])
    expect(wire(new messages.AIMessage('x'), true)).toMatchObject({ type: 'ai' })
  })

  test('nothing internal is sent', () => {
    for (const text of [
      print(new messages.AIMessage('x')),
      print(new messages.ToolMessage({ content: '', tool_call_id: 'c' })),
    ])
      expect(text).not.toMatch(/lc_|langchain/)
  })

  test('a prompt value is sent in its serialized form, its messages as messages', async () => {
    const prompt = await ChatPromptTemplate.fromMessages([['human', 'hi']]).invoke({})
    expect(wire(prompt)).toMatchObject({
      lc: 1,
      type: 'constructor',
      kwargs: { messages: [{ type: 'human', content: 'hi' }] },
    })
  })
})

test.each<[string, unknown, unknown]>([
  ['a Map with text keys as an object', new Map([['a', new Set([1])]]), { a: [1] }],
  ['another Map as pairs', new Map<unknown, unknown>([[1, 'a'], [{ k: 1n }, 2]]), [[1, 'a'], [{ k: 1 }, 2]]], // biome-ignore format: a table
  ['a Date as ISO text', { at: new Date(0), no: new Date(Number.NaN) }, { at: '1970-01-01T00:00:00.000Z', no: null }],
  ['a safe bigint as a number, another as text', [12n, -(2n ** 60n)], [12, '-1152921504606846976']],
  ['bytes as base64', [new Uint8Array([1, 2]), Buffer.from('ab'), new ArrayBuffer(1)], ['AQI=', 'YWI=', 'AA==']],
  ['other typed arrays as numbers', [new Float32Array([0.5]), new BigInt64Array([3n])], [[0.5], [3]]],
  ['an Error as name and message', new TypeError('no'), { name: 'TypeError', message: 'no' }],
  ['a RegExp as text', [/a\/b/g], ['/a\\/b/g']],
  [
    'what JSON cannot say as nothing or null',
    { a: undefined, b: () => 1, c: [undefined, Symbol('x'), Number.NaN, -0] },
    { c: [null, null, null, 0] },
  ],
  [
    'a Send and a Command by their parts',
    [new Send('n', { a: 1 }), new Command({ goto: 'n', resume: 1 })],
    [
      { node: 'n', args: { a: 1 } },
      { resume: 1, goto: ['n'] },
    ],
  ],
  [
    'a document by its fields',
    new Document({ pageContent: 'p', metadata: { n: 1n } }),
    { pageContent: 'p', metadata: { n: 1 } },
  ],
  [
    'an instance by toJSON, or its own fields',
    [
      new URL('http://a/'),
      new (class {
        n = 1n
        f = () => 1
      })(),
    ],
    ['http://a/', { n: 1 }],
  ],
  [
    'a key __proto__ as a key',
    { list: [1n], ['__proto__']: { n: 1n } },
    JSON.parse('{"list":[1],"__proto__":{"n":1}}'),
  ],
])('%s', (_, value, printed) => {
  expect(wire(value)).toEqual(printed)
  expect(wire({ nested: [value] })).toEqual({ nested: [printed] })
})

test('plain JSON prints as JSON.stringify prints it, and is not copied', () => {
  fc.assert(
    fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
      expect(print(value)).toBe(JSON.stringify(value))
      expect(plain(value)).toBe(value)
    }),
  )
})

test('anything at all prints as JSON on one line', () => {
  fc.assert(
    fc.property(
      fc.anything({
        withBigInt: true,
        withDate: true,
        withMap: true,
        withSet: true,
        withTypedArray: true,
        withNullPrototype: true,
        withBoxedValues: true,
        withSparseArray: true,
      }),
      (value) => {
        const text = print(value)
        expect(text).not.toContain('\n')
        JSON.parse(text)
      },
    ),
  )
})

test('printing changes nothing in what is printed', () => {
  const value = Object.freeze({
    n: 1n,
    list: Object.freeze([new Set([1n])]),
    message: Object.freeze(new messages.AIMessage('x')),
  })
  expect(wire(value)).toMatchObject({ n: 1, list: [[1]], message: { type: 'ai' } })
})

test('cycles and endless depth print as words', () => {
  const loop: Record<string, unknown> = { a: 1 }
  loop.self = [loop]
  expect(wire(loop)).toEqual({ a: 1, self: ['[Circular]'] })
  const deep = Array.from({ length: 5_000 }).reduce<unknown>((inner) => [inner], 1)
  expect(print(deep)).toContain('"[Too deep]"')
  expect(print(undefined)).toBe('null')
})

test('a getter that throws gives an error that says so', () => {
  const value = Object.defineProperty({}, 'a', {
    enumerable: true,
    get: () => {
      throw new Error('broken')
    },
  })
  expect(() => print(value)).toThrow('A value cannot be sent as JSON: broken')
})
