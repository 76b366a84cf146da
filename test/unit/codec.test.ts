import assert from 'node:assert/strict'
import * as documents from '@langchain/core/documents'
import * as messages from '@langchain/core/messages'
import * as langgraph from '@langchain/langgraph'
import * as checkpoint from '@langchain/langgraph-checkpoint'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CodecError, createCodec } from '../../src/executor/codec.ts'
import { VIEWS } from '../../src/executor/codec-write.ts'
import { spliced } from '../../src/splices.ts'

const codec = createCodec({ messages, documents, langgraph, checkpoint })
const trip = <T>(value: T): T => codec.decode(codec.encode(value, 'channel x')) as T
/** Keys named `constructor` mislead expect's strict equality. */
const tripsWhole = (value: unknown): void => assert.deepStrictEqual(trip(value), value)
const failure = (value: unknown, where = 'channel x'): string => {
  try {
    codec.encode(value, where)
  } catch (error) {
    expect(error).toBeInstanceOf(CodecError)
    return (error as Error).message
  }
  throw new Error('nothing was thrown')
}

describe('any supported value comes back equal', () => {
  const anything = fc.anything({
    withBigInt: true,
    withMap: true,
    withSet: true,
    withTypedArray: true,
    withSparseArray: true,
    values: [
      fc.boolean(),
      fc.double(),
      fc.integer(),
      fc.string({ unit: 'binary' }),
      fc.date({ noInvalidDate: true }),
      fc.constantFrom(null, undefined, /x/g, -0, '$heddle'),
    ],
    key: fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('__proto__', 'constructor', 'lc', '$heddle', 'toJSON', 'v'),
    ),
  })

  test('whatever it is made of', () => {
    fc.assert(fc.property(anything, tripsWhole), { numRuns: 2_000 })
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
  })

  test('also where lists stand in it that are stored elsewhere', () => {
    // A third of all lists, by their length, are known to begin as themselves up to some item.
    const known = (list: unknown[]) =>
      list.length % 3 === 1 && Object.keys(list).length === list.length && typeof Object(list).toJSON !== 'function'
    let put = 0
    const apart = fc.property(fc.array(anything), (value) => {
      const lists: unknown[][] = []
      const { blob, splices = [] } = codec.encodeApart(value, 'channel x', (list) => {
        if (!known(list)) return undefined
        const length = 1 + (list.length >> 1)
        const version = String(lists.push(list.slice(0, length)) - 1)
        return { checkpoint_ns: 'a|b', channel: 'c', version, bytes: 0, length }
      })
      put += splices.length
      const bytes = spliced(blob.bytes, splices, ({ version }) => codec.encode(lists[Number(version)], 'list').bytes)
      expect(Buffer.from(bytes)).toEqual(codec.encode(value, 'channel x').bytes)
    })
    fc.assert(apart, { numRuns: 2_000 })
    expect(put).toBeGreaterThan(1_000)
  })

  test('strings of every code unit, lone surrogates and NUL included', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 0xffff })), (units) => {
        const text = String.fromCharCode(...units)
        expect(trip(text)).toBe(text)
        expect(trip({ [text]: [text] })).toEqual({ [text]: [text] })
      }),
    )
    expect(trip('\ud800 \0 \udc00')).toBe('\ud800 \0 \udc00')
  })

  test('numbers that JSON has no word for', () => {
    for (const number of [-0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 5e-324, 2 ** 60])
      expect(trip([number, { number }])).toStrictEqual([number, { number }])
  })

  test('undefined, as a value and as a property', () => {
    expect(trip(undefined)).toBeUndefined()
    expect(Object.keys(trip({ a: undefined, b: [undefined] }))).toEqual(['a', 'b'])
    const sparse = [undefined, 1, 1]
    delete sparse[1]
    expect(trip(sparse)).toStrictEqual(sparse)
  })

  test('dates, also the invalid one, and patterns', () => {
    expect(trip(new Date(5))).toStrictEqual(new Date(5))
    expect(trip(new Date(Number.NaN)).getTime()).toBeNaN()
    expect(trip(/a\/b\n/giu)).toStrictEqual(/a\/b\n/giu)
  })

  test('errors by name and message, without their stack', () => {
    const error = trip(new RangeError('too far'))
    expect(error).toBeInstanceOf(RangeError)
    expect([error.name, error.message, error.stack]).toEqual(['RangeError', 'too far', 'RangeError: too far'])
    class PaymentError extends Error {
      override name = 'PaymentError'
    }
    expect(String(trip(new PaymentError('declined')))).toBe('PaymentError: declined')
  })

  test('bytes of all kinds, at the top and inside', () => {
    const bytes = new Uint8Array([0, 255, 128])
    expect(codec.encode(bytes, 'x')).toEqual({ type: 'bytes', bytes })
    const values = [bytes, Buffer.from('ab'), bytes.buffer, new DataView(bytes.buffer), new Float64Array([Math.PI, -0])]
    for (const value of values) {
      expect(trip(value)).toStrictEqual(value)
      expect(trip([{ value }])).toStrictEqual([{ value }])
    }
    expect(Buffer.isBuffer(trip(Buffer.from('ab')))).toBe(true)
  })

  test('bytes are kept as what they are, whatever they say of themselves', () => {
    class Embedding extends Float32Array {
      override get [Symbol.toStringTag]() {
        return 'Process' as 'Float32Array'
      }
    }
    expect(trip([new Embedding([1, 2])])).toStrictEqual([new Float32Array([1, 2])])
    const posing = Object.defineProperty(new Int16Array([3]), Symbol.toStringTag, { value: 'Date' })
    expect(trip([posing])).toStrictEqual([new Int16Array([3])])
    const shared = new Uint8Array(new SharedArrayBuffer(2))
    shared[1] = 7
    expect(trip([shared])).toStrictEqual([new Uint8Array([0, 7])])
  })

  test('every view of bytes that is on the list can be read, and no other is written', () => {
    const known = Object.getOwnPropertyNames(globalThis).filter((name) => /^(\w+Array|DataView)$/.test(name))
    for (const name of known.filter((name) => !/^(Array|SharedArray)/.test(name))) {
      const View = (globalThis as unknown as Record<string, new (buffer: ArrayBuffer) => ArrayBufferView>)[name]
      const view = new (View as new (buffer: ArrayBuffer) => ArrayBufferView)(new ArrayBuffer(16))
      if (VIEWS.has(name)) expect(trip([view])).toStrictEqual([view])
      else expect(failure([view])).toContain(`is a ${name}`)
    }
    expect(known).toEqual(expect.arrayContaining([...VIEWS]))
  })

  test('a value changed after it was encoded stays as it was', () => {
    const bytes = new Uint8Array([1])
    const list = [{ a: 1 }]
    const blobs = [codec.encode(bytes, 'x'), codec.encode(list, 'x')]
    bytes[0] = 2
    list.push({ a: 2 })
    expect(blobs.map(codec.decode)).toEqual([new Uint8Array([1]), [{ a: 1 }]])
  })
})

describe('what looks like a record of a serializer stays data', () => {
  const records = [
    { lc: 1, type: 'secret', id: ['OPENAI_API_KEY'] },
    { lc: 1, type: 'constructor', id: ['langchain_core', 'messages', 'AIMessage'], kwargs: { content: 'x' } },
    { lc: 2, type: 'constructor', id: ['Error'], args: ['x'] },
    { __lc_escaped__: { lc: 1 } },
    { $heddle: 'Date', v: 0 },
    { $heddle: 'AIMessage', v: { content: 'x' } },
    { $heddle: { $heddle: 'undefined' }, more: [{ $heddle: 'object', v: [] }] },
    { lc_serializable: true, lc_namespace: ['langchain_core', 'messages'], content: 'x', type: 'ai' },
    { lg_name: 'Send', node: 'a', args: 1 },
  ]

  test('at the top, nested, in a message and in a document', () => {
    for (const record of records) {
      expect(trip(record)).toStrictEqual(record)
      expect(trip([{ a: new Map([[record, record]]) }])).toStrictEqual([{ a: new Map([[record, record]]) }])
      const message = new messages.AIMessage({ content: 'x', additional_kwargs: { record }, response_metadata: record })
      expect(trip(message).additional_kwargs).toStrictEqual({ record })
      expect(trip(message).response_metadata).toStrictEqual(record)
      expect(trip(new documents.Document({ pageContent: 'x', metadata: record })).metadata).toStrictEqual(record)
      expect(trip(new langgraph.Send('a', { record })).args).toStrictEqual(new langgraph.Send('a', { record }).args)
    }
  })

  test('as a field of a message, or an argument of its making', () => {
    const message = new messages.HumanMessage({ content: 'x', $heddle: 'Date' } as never)
    Object.assign(message, { $heddle: 'gone', v: 1 })
    const back = trip(message) as messages.HumanMessage & Record<string, unknown>
    expect([back.content, back.$heddle, back.v]).toEqual(['x', 'gone', 1])
    const given = trip(new messages.HumanMessage({ content: 'x', $heddle: 'Date' } as never))
    expect(given.lc_kwargs).toMatchObject({ $heddle: 'Date' })
  })

  test('an own __proto__ or constructor key comes back as data and changes no prototype', () => {
    const hostile = JSON.parse('{"__proto__":{"polluted":1,"d":null},"constructor":{"prototype":{"polluted":1}}}')
    Object.defineProperty(hostile, '__proto__', { value: { polluted: new Date(1) }, enumerable: true, writable: true })
    for (const value of [hostile, { hostile: [hostile] }, { $heddle: 1, hostile }]) tripsWhole(value)
    expect(Object.keys(trip(hostile))).toEqual(['__proto__', 'constructor'])
    expect(Object.getPrototypeOf(trip(hostile))).toBe(Object.prototype)
    const send = trip(new langgraph.Send('a', hostile))
    expect(Object.getPrototypeOf(send.args)).not.toHaveProperty('polluted.polluted')
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
  })
})

// Not with a key `__proto__`: LangGraph's constructors take it for a prototype.
describe('anything comes back equal inside of what LangChain puts into state', () => {
  const inner = fc.anything({
    withBigInt: true,
    withMap: true,
    withSet: true,
    withTypedArray: true,
    key: fc.oneof(fc.string(), fc.constantFrom('lc', 'id', 'kwargs', 'type', '$heddle', 'content')),
    values: [
      fc.double(),
      fc.date({ noInvalidDate: true }),
      fc.string({ unit: 'binary' }),
      fc.bigInt(),
      fc.constantFrom(null, undefined, -0, Number.NaN, 1, 'constructor', 'secret'),
    ],
  })
  const kinds = [
    messages.HumanMessage,
    messages.AIMessage,
    messages.SystemMessage,
    messages.AIMessageChunk,
    messages.HumanMessageChunk,
  ]

  test.each(kinds.map((Kind) => [Kind.name, Kind] as const))('in the fields of a %s', (_, Kind) => {
    fc.assert(
      fc.property(inner, (value) => {
        const back = trip([new Kind({ content: 'x', additional_kwargs: { value }, response_metadata: { value } })])[0]
        expect(back?.constructor).toBe(Kind)
        assert.deepStrictEqual([back?.additional_kwargs, back?.response_metadata], [{ value }, { value }])
      }),
      { numRuns: 200 },
    )
  })

  test('in the result of a tool, a document, a send and a command', () => {
    fc.assert(
      fc.property(inner, (value) => {
        const tool = trip(new messages.ToolMessage({ content: 'x', tool_call_id: 'c', artifact: { value } }))
        assert.deepStrictEqual(tool.artifact, { value })
        const document = trip(new documents.Document({ pageContent: 'x', metadata: { value } }))
        assert.deepStrictEqual(document.metadata, { value })
        assert.deepStrictEqual(trip(new langgraph.Send('a', { value })).args, new langgraph.Send('a', { value }).args)
        const command = new langgraph.Command({ update: { value }, resume: value })
        assert.deepStrictEqual(trip(command).update, command.update)
        assert.deepStrictEqual(trip(command).resume, command.resume)
      }),
      { numRuns: 300 },
    )
  })
})

describe('LangChain values come back as instances of the classes of the project', () => {
  const call = { name: 'search', args: { q: 'x' }, id: 'c1', type: 'tool_call' as const }
  const usage_metadata = { input_tokens: 1, output_tokens: 2, total_tokens: 3 }
  const samples: messages.BaseMessage[] = [
    new messages.HumanMessage('hi'),
    new messages.HumanMessage({
      content: [{ type: 'text', text: 'x' }],
      id: 'h',
      name: 'Ann',
      additional_kwargs: { a: [1] },
    }),
    new messages.SystemMessage({ content: 's', response_metadata: { r: 1 } }),
    new messages.AIMessage({ content: '', id: 'a', name: 'bot', tool_calls: [call], usage_metadata }),
    new messages.AIMessage({
      content: '',
      invalid_tool_calls: [{ name: 'x', args: '{', id: 'c', error: 'bad', type: 'invalid_tool_call' }],
    }),
    new messages.AIMessage({
      content: [{ type: 'text', text: 'x' }],
      response_metadata: { output_version: 'v1' },
      tool_calls: [call],
    }),
    new messages.AIMessageChunk({
      content: 'x',
      id: 'a',
      tool_call_chunks: [{ name: 't', args: '{"a":1}', id: 'c', index: 0, type: 'tool_call_chunk' }],
    }),
    new messages.HumanMessageChunk('x'),
    new messages.SystemMessageChunk('x'),
    new messages.ToolMessage({
      content: 'r',
      tool_call_id: 'c1',
      name: 't',
      status: 'error',
      artifact: { bytes: new Uint8Array([1]) },
      id: 't',
    }),
    new messages.ToolMessageChunk({ content: 'r', tool_call_id: 'c1' }),
    new messages.ChatMessage({ content: 'x', role: 'judge' }),
    new messages.ChatMessageChunk({ content: 'x', role: 'judge' }),
    new messages.FunctionMessage({ content: 'x', name: 'f' }),
    new messages.FunctionMessageChunk({ content: 'x', name: 'f' }),
    new messages.RemoveMessage({ id: 'gone' }),
  ]

  test.each(samples.map((message) => [message.constructor.name, message] as const))('%s', (_, message) => {
    const [back] = trip([message])
    expect(back?.constructor).toBe(message.constructor)
    const own = (value: object) => Object.fromEntries(Object.entries(value).filter(([key]) => key !== 'lc_kwargs'))
    expect(own(back as object)).toEqual(own(message))
    expect(back?.toDict()).toEqual(message.toDict())
  })

  test('what was set after the making is kept, in the message and in its toDict', () => {
    const message = new messages.AIMessage('x')
    message.name = 'late'
    message.id = 'late-id'
    expect(trip(message)).toMatchObject({ name: 'late', id: 'late-id' })
    expect(trip(message).toDict().data).toMatchObject({ name: 'late', id: 'late-id' })
  })

  test('a subclass is read back as the class it extends', () => {
    class Judged extends messages.AIMessage {
      verdict = 'good'
    }
    const back = trip(new Judged('x'))
    expect(back.constructor).toBe(messages.AIMessage)
    expect([back.content, back.verdict]).toEqual(['x', 'good'])
  })

  test('constructor arguments without a property of their own are kept', () => {
    const message = new messages.HumanMessage({ content: 'x', example: true } as never)
    expect(trip(message).lc_kwargs).toMatchObject({ content: 'x', example: true })
    expect('example' in trip(message)).toBe(false)
  })

  test('documents, sends, commands, snapshots', () => {
    const document = new documents.Document({ pageContent: 'p', metadata: { at: new Date(1) }, id: 'd' })
    expect(trip(document)).toStrictEqual(document)
    const send = new langgraph.Send('node', { n: 1n, messages: [new messages.HumanMessage('x')] })
    Object.assign(send, { timeout: { runTimeout: 50 } })
    expect(trip([send])[0]).toBeInstanceOf(langgraph.Send)
    expect(trip([send])).toEqual([send])
    const command = new langgraph.Command({ update: { a: 1 }, goto: [send], resume: { yes: true } })
    expect(trip(command)).toBeInstanceOf(langgraph.Command)
    expect(trip(command)).toMatchObject({ update: { a: 1 }, goto: [send], resume: { yes: true } })
    const snapshot = new checkpoint.DeltaSnapshot([new messages.HumanMessage('x')])
    expect(checkpoint.isDeltaSnapshot(trip(snapshot))).toBe(true)
    expect(trip(snapshot)).toBeInstanceOf(checkpoint.DeltaSnapshot)
    expect(snapshot.value).toEqual(trip(snapshot).value)
    expect(trip(new langgraph.Overwrite(['a']))).toEqual({ __overwrite__: ['a'] })
    const interrupt = { id: 'i', value: { ask: new Set(['ok']) } }
    expect(trip([interrupt])).toEqual([interrupt])
  })
})

describe('what cannot be kept', () => {
  test('an instance becomes what its toJSON gives, or its own properties', () => {
    class Point {
      x = 1
      at = new Date(3)
      #hidden = 2
      get sum() {
        return this.x + this.#hidden
      }
    }
    expect(trip(new Point())).toStrictEqual({ x: 1, at: new Date(3) })
    const odd = Object.assign(new Point(), { $heddle: 'Date', v: 0 })
    expect(trip(odd)).toStrictEqual({ x: 1, at: new Date(3), $heddle: 'Date', v: 0 })
    Object.defineProperty(odd, '__proto__', { value: { polluted: 1 }, enumerable: true })
    expect(Object.keys(trip(odd))).toEqual(['x', 'at', '$heddle', 'v', '__proto__'])
    expect(trip({ url: new URL('http://a/b') })).toEqual({ url: 'http://a/b' })
    expect(trip({ toJSON: () => ({ n: 1n }) })).toEqual({ n: 1n })
    expect(trip(new (class extends Array<number> {})(1, 2))).toEqual([1, 2])
    expect(trip([Object(1), Object('a')])).toEqual([1, 'a'])
  })

  test.each([
    ['a function', () => 1, 'is a function'],
    ['a class', class {}, 'is a function'],
    ['a symbol', Symbol('x'), 'is a symbol'],
    ['a promise', Promise.resolve(), 'is a Promise'],
    ['a WeakMap', new WeakMap(), 'is a WeakMap'],
    ['a generator', (function* () {})(), 'is a Generator'],
    ['headers', new Headers(), 'is a Headers'],
    ['a shared buffer', new SharedArrayBuffer(1), 'is a SharedArrayBuffer'],
  ])('%s fails with the channel and the path', (_, value, reason) => {
    expect(failure({ messages: [{ 'a b': { run: value } }] }, 'channel "tools"')).toBe(
      `The value of channel "tools" at messages[0]["a b"].run cannot be stored: it ${reason}.`,
    )
    expect(failure(value)).toBe(`The value of channel x cannot be stored: it ${reason}.`)
    expect(failure(new messages.AIMessage({ content: '', additional_kwargs: { f: value } as never }))).toContain(
      'at additional_kwargs.f cannot',
    )
  })

  test('cycles fail, shared parts do not', () => {
    const loop: Record<string, unknown> = { list: [] }
    loop.list = [new Map([['again', loop]])]
    expect(failure(loop)).toBe('The value of channel x at list[0].again cannot be stored: it contains itself.')
    const shared = { a: 1 }
    expect(trip([shared, shared, { shared }])).toEqual([shared, shared, { shared }])
  })

  test('depth has a limit, and what is under it can be read back', () => {
    const nest = (depth: number, end: unknown) =>
      Array.from({ length: depth }).reduce<unknown>((inner) => [{ inner }], end)
    expect(failure(nest(100_000, 1))).toContain('is nested too deeply')
    expect(trip(nest(499, new Date(1)))).toEqual(nest(499, new Date(1)))
  })

  test('getters and toJSON that throw fail with their reason', () => {
    const broken = () => {
      throw new Error('no')
    }
    const trap = Object.defineProperty({}, 'a', { enumerable: true, get: broken })
    for (const value of [trap, { toJSON: broken }, new Proxy({}, { ownKeys: broken })])
      expect(failure([value])).toBe('The value of channel x at [0] cannot be stored: it could not be read: no.')
  })

  test('bytes that the codec did not write are refused', () => {
    const read =
      (text: string, type = 'json') =>
      () =>
        codec.decode({ type, bytes: Buffer.from(text) })
    expect(read('{"$heddle":"process"}')).toThrow('of the kind "process", which this server cannot read')
    expect(read('{"$heddle":"__proto__"}')).toThrow(CodecError)
    expect(read('{oops')).toThrow('its bytes are damaged')
    expect(read('x', 'pickle')).toThrow('has the format "pickle"')
  })
})
