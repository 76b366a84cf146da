// Chunks and messages as content blocks: every provider's way of streaming comes to blocks that follow one another.

import { expect, test } from 'vitest'
import { createMessages, type MessageData } from '../../src/runs/blocks.ts'

const chunk = (content: unknown, more: object = {}) => ({ type: 'AIMessageChunk', id: 'm', content, ...more })
const call = (index: number, args: string, more: object = {}) => ({ index, args, ...more })
const brief = (data: readonly MessageData[]) =>
  data.map(({ event, message_id: _, run_id: __, ...rest }) => {
    const { id, role, index, delta, content, ...others } = rest as Record<string, never>
    return [
      event,
      ...[role, index, delta, content].filter((part) => part !== undefined),
      ...(Object.keys(others).length ? [others] : []),
    ]
  })
/** Everything that some chunks come to, with the end. */
const told = (...chunks: object[]) => {
  const messages = createMessages()
  const data = chunks.flatMap((one) => messages.see('here', one as never, {}))
  return brief([...data, ...messages.finish(() => true).flatMap((end) => end.data)])
}

test('text, thoughts and calls of tools follow one another, each finished before the next begins', () => {
  expect(
    told(
      chunk([{ type: 'thinking', thinking: 'hm', index: 0 }]),
      chunk([{ type: 'thinking', thinking: '!', signature: 's', index: 0 }]),
      chunk([{ type: 'text', text: 'So', index: 1 }]),
      chunk('', { tool_call_chunks: [call(2, '', { id: 'a', name: 'add' }), call(3, '{}', { id: 'b', name: 'sub' })] }),
      chunk('', { tool_call_chunks: [call(3, '')] }),
    ),
  ).toEqual([
    ['message-start', 'ai'],
    ['content-block-start', 0, { type: 'reasoning', reasoning: '', index: 0 }],
    ['content-block-delta', 0, { type: 'reasoning-delta', reasoning: 'hm' }],
    ['content-block-delta', 0, { type: 'reasoning-delta', reasoning: '!' }],
    ['content-block-finish', 0, { type: 'reasoning', reasoning: 'hm!', index: 0, signature: 's' }],
    ['content-block-start', 1, { type: 'text', text: '', index: 1 }],
    ['content-block-delta', 1, { type: 'text-delta', text: 'So' }],
    ['content-block-finish', 1, { type: 'text', text: 'So', index: 1 }],
    ['content-block-start', 2, { type: 'tool_call_chunk', id: 'a', name: 'add', args: '' }],
    ['content-block-finish', 2, { type: 'tool_call', id: 'a', name: 'add', args: {} }],
    ['content-block-start', 3, { type: 'tool_call_chunk', id: 'b', name: 'sub', args: '' }],
    ['content-block-delta', 3, { type: 'tool-call-delta', args: '{}' }],
    ['content-block-finish', 3, { type: 'tool_call', id: 'b', name: 'sub', args: {} }],
    ['message-finish'],
  ])
})

test('text and a call of the same index are two blocks, and arguments that are no JSON are told as such', () => {
  expect(told(chunk('Let me'), chunk('', { tool_call_chunks: [call(0, '{"a":', { id: 'a', name: 'add' })] }))).toEqual([
    ['message-start', 'ai'],
    ['content-block-start', 0, { type: 'text', text: '' }],
    ['content-block-delta', 0, { type: 'text-delta', text: 'Let me' }],
    ['content-block-finish', 0, { type: 'text', text: 'Let me' }],
    ['content-block-start', 1, { type: 'tool_call_chunk', id: 'a', name: 'add', args: '' }],
    ['content-block-delta', 1, { type: 'tool-call-delta', args: '{"a":' }],
    [
      'content-block-finish',
      1,
      { type: 'invalid_tool_call', id: 'a', name: 'add', args: '{"a":', error: 'The arguments are not a JSON object.' },
    ],
    ['message-finish'],
  ])
})

test('use is added up, and told at the end', () => {
  const use = (input_tokens: number, cached: number) => ({
    usage_metadata: { input_tokens, input_token_details: { cached } },
  })
  expect(
    told(chunk('a', use(1, 2)), chunk('', { ...use(3, 4), response_metadata: { finish_reason: 'stop' } })).at(-1),
  ).toEqual([
    'message-finish',
    { usage: { input_tokens: 4, input_token_details: { cached: 6 } }, responseMetadata: { finish_reason: 'stop' } },
  ])
})

test('a whole message is told at once, and one that was told in chunks is not told again', () => {
  const messages = createMessages()
  const whole = {
    type: 'human',
    id: 'q',
    content: [
      { type: 'text', text: 'hi' },
      { type: 'image', url: 'u' },
    ],
  }
  expect(brief(messages.see('here', whole, {}))).toEqual([
    ['message-start', 'human'],
    ['content-block-start', 0, { type: 'text', text: '' }],
    ['content-block-delta', 0, { type: 'text-delta', text: 'hi' }],
    ['content-block-finish', 0, { type: 'text', text: 'hi' }],
    ['content-block-start', 1, { type: 'image', url: 'u' }],
    ['content-block-finish', 1, { type: 'image', url: 'u' }],
    ['message-finish'],
  ])
  expect(messages.see('here', whole, {})).toEqual([])
  messages.see('here', chunk('Hel'), {})
  expect(brief(messages.see('here', { type: 'ai', id: 'm', content: 'Hello' }, {}))).toEqual([
    ['content-block-finish', 0, { type: 'text', text: 'Hel' }],
    ['message-finish'],
  ])
})

test('messages that come again and again with more are told by what is new', () => {
  const messages = createMessages()
  const texts = ['H', 'Hel', 'Hello'].flatMap((content) => messages.seeWhole('here', chunk(content), {}))
  expect(texts.flatMap(({ delta }) => (delta === undefined ? [] : [(delta as { text: string }).text]))).toEqual([
    'H',
    'el',
    'lo',
  ])
})

test('two that speak at one place are told apart by their ids, and one that is cut off says so', () => {
  const messages = createMessages()
  const data = ['a', 'b', 'a'].flatMap((id) => messages.see('here', { ...chunk(id), id: `run-${id}` }, {}))
  expect(data.filter(({ delta }) => delta !== undefined).map(({ message_id, run_id }) => [message_id, run_id])).toEqual(
    [
      ['run-a', 'a'],
      ['run-b', 'b'],
      ['run-a', 'a'],
    ],
  )
  expect(messages.finish((_, id) => id === 'run-a', 'cut').flatMap(({ data }) => brief(data))).toEqual([
    ['error', { message: 'cut' }],
  ])
})
