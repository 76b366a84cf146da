// What a saver remembers of lists: which of them another begins with.

import { AIMessage } from '@langchain/core/messages'
import { describe, expect, test } from 'vitest'
import { createListMemory, type ListMemory } from '../../src/executor/lists.ts'

const chain = { id: '1', position: 0, whole_bytes: 0, added_bytes: 0 }
const remember = (lists: ListMemory, checkpoint_ns: string, channel: string, value: unknown[], bytes = 1_000) =>
  lists.remember({ thread_id: 't', checkpoint_ns }, channel, value, { version: '1', chain, bytes })
const messages = (count: number) =>
  Array.from({ length: count }, (_, i) => new AIMessage({ id: `${i}`, content: `${i}` }))

describe('the beginning of a list', () => {
  test('is the longest of those that it begins with, the outermost of equal ones', () => {
    const lists = createListMemory()
    remember(lists, '', 'a', messages(2))
    remember(lists, '', 'b', messages(3))
    remember(lists, 'n:1', 'c', messages(3))
    remember(lists, 'n:1', 'd', messages(5))
    const begins = (count: number, namespaces = ['', 'n:1']) =>
      lists.beginning('t', namespaces, messages(count))?.channel
    expect([1, 2, 3, 4, 5, 6].map((count) => begins(count))).toEqual([undefined, 'a', 'b', 'b', 'd', 'd'])
    expect(begins(4, ['n:1'])).toBe('c')
    expect(begins(4, ['n:2'])).toBeUndefined()
    expect(lists.beginning('other', [''], messages(4))).toBeUndefined()
  })

  test('is none that was changed in place, none that is short, and nothing of what cannot be proved', () => {
    const lists = createListMemory()
    const list = messages(3)
    remember(lists, '', 'a', list)
    const [first] = list as [AIMessage]
    expect(lists.beginning('t', [''], list)?.channel).toBe('a')
    first.content = 'changed'
    expect(lists.beginning('t', [''], list)).toBeUndefined()
    remember(lists, '', 'a', messages(3), 255)
    expect(lists.beginning('t', [''], messages(3))).toBeUndefined()
    remember(lists, '', 'a', [new Map()])
    expect(lists.beginning('t', [''], [new Map()])).toBeUndefined()
  })

  test('is none with properties of its own, though its items are the same', () => {
    const lists = createListMemory()
    remember(lists, '', 'a', messages(3))
    expect(lists.beginning('t', [''], Object.assign(messages(3), { more: true }))).toBeUndefined()
  })
})

test('of very many namespaces, those are remembered that were looked at last', () => {
  const lists = createListMemory()
  remember(lists, '', 'a', messages(3))
  for (let i = 0; i < 1_000; i++) {
    expect(lists.beginning('t', ['', `n:${i}`], messages(3))?.checkpoint_ns).toBe('')
    remember(lists, `n:${i}`, 'a', messages(4))
  }
  const known = Array.from({ length: 1_000 }, (_, i) => lists.beginning('t', [`n:${i}`], messages(4)) !== undefined)
  expect(known.indexOf(true)).toBe(901)
  expect(known.lastIndexOf(false)).toBe(900)
})
