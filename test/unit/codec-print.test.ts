// What is stored prints the same whether or not the messages in it are made first.

import * as documents from '@langchain/core/documents'
import * as messages from '@langchain/core/messages'
import * as langgraph from '@langchain/langgraph'
import * as checkpoint from '@langchain/langgraph-checkpoint'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createCodec } from '../../src/executor/codec.ts'
import { MESSAGE_CLASSES } from '../../src/executor/codec-write.ts'
import { Plain, print } from '../../src/executor/wire.ts'

const codec = createCodec({ messages, documents, langgraph, checkpoint })

const name = fc.oneof(
  fc.string(),
  fc.constantFrom('__proto__', 'constructor', 'text', 'name', 'id', 'type', '7', '$heddle'),
)
const anything = fc.anything({
  withBigInt: true,
  withDate: true,
  withMap: true,
  withSet: true,
  withTypedArray: true,
  withSparseArray: true,
  values: [fc.string({ unit: 'binary' }), fc.double(), fc.boolean(), fc.constantFrom(null, undefined, -0)],
  key: name,
  maxDepth: 2,
})
const bag = fc.dictionary(name, anything, { maxKeys: 3 })
const given = {
  name: fc.string(),
  id: fc.string(),
  additional_kwargs: bag,
  response_metadata: fc.oneof(bag, fc.constant({ output_version: 'v1' })),
  tool_calls: fc.array(
    fc.record({ name: fc.string(), args: bag, id: fc.string(), type: fc.constant('tool_call' as const) }),
  ),
  usage_metadata: fc.constant({ input_tokens: 1, output_tokens: 2, total_tokens: 3 }),
  status: fc.constantFrom('success', 'error'),
  artifact: anything,
  example: fc.boolean(),
  unknown: anything,
}
type Class = new (fields: object) => object
const message = fc
  .tuple(
    fc.constantFrom(...MESSAGE_CLASSES),
    fc.record(given, { requiredKeys: [] }),
    fc.oneof(fc.string({ unit: 'binary' }), fc.array(fc.record({ type: fc.constant('text'), text: fc.string() }))),
    bag,
  )
  .map(([kind, fields, content, later]) => {
    const Message = (messages as unknown as Record<string, Class>)[kind] as Class
    const made = new Message({ tool_call_id: 'c', role: 'r', ...fields, content, id: fields.id ?? 'm' })
    for (const [key, value] of Object.entries(later))
      if (!(key in made))
        Object.defineProperty(made, key, { value, enumerable: true, writable: true, configurable: true })
    return made
  })
const stored = fc.oneof(
  { weight: 3, arbitrary: fc.array(message, { maxLength: 4 }) },
  { weight: 2, arbitrary: fc.array(fc.oneof(message, anything), { maxLength: 4 }) },
  fc.dictionary(name, fc.oneof(message, anything)),
  fc.array(message).map((list) => new Map([['inside', list]])),
  message.map((one) => new langgraph.Send('node', { one })),
  message.map((one) => ({
    deep: [{ additional: new messages.AIMessage({ content: '', additional_kwargs: { one } }) }],
  })),
  anything,
)

test('whatever is stored', () => {
  let compared = 0
  fc.assert(
    fc.property(stored, (value) => {
      const blob = storable(value)
      if (blob === undefined) return
      compared++
      expect(print(new Plain(codec.plain(blob)))).toBe(print(codec.decode(blob)))
    }),
    { numRuns: 500 },
  )
  expect(compared).toBeGreaterThan(300)
})

test('a message of every class, with nothing but what it must have', () => {
  for (const kind of MESSAGE_CLASSES) {
    const Message = (messages as unknown as Record<string, Class>)[kind] as Class
    const blob = codec.encode([new Message({ content: '', tool_call_id: 'c', role: 'r', id: 'm' })], 'x')
    expect(print(codec.plain(blob))).toBe(print(codec.decode(blob)))
  }
})

test('bytes, and a value that is nothing but a message', () => {
  for (const value of [new Uint8Array([1, 2, 255]), new messages.HumanMessage('x'), 'text', null, 1]) {
    const blob = codec.encode(value, 'x')
    expect(print(codec.plain(blob))).toBe(print(codec.decode(blob)))
  }
})

/** What the codec refuses is another test's. */
function storable(value: unknown) {
  try {
    return codec.encode(value, 'x')
  } catch {
    return undefined
  }
}
