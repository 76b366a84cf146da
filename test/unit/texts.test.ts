// Which texts of an item are embedded.

import { describe, expect, test } from 'vitest'
import { hashOf, readPath, textsAt } from '../../src/graph/texts.ts'

const item = {
  title: 'One',
  n: 3,
  none: null,
  blank: ' \n',
  by: { name: 'Ann', tags: ['x', 'y'] },
  chapters: [{ title: 'a', parts: [{ t: 'p' }, { t: 'q' }] }, { title: 'b' }, 'text'],
  __proto__: { hidden: 'h' },
}
const texts = (...paths: string[]) =>
  textsAt(
    item,
    paths.map((path) => readPath(path) ?? expect.fail(path)),
  )

describe('a path', () => {
  test.each([
    ['title', ['One']],
    ['$.title', ['One']],
    ['by.name', ['Ann']],
    ['by.tags[*]', ['x', 'y']],
    ['by.tags[0]', ['x']],
    ['by.tags[-1]', ['y']],
    ['by.tags[9]', []],
    ['by.*', ['Ann', '["x","y"]']],
    ['chapters[*].title', ['a', 'b']],
    ['chapters[*].parts[*].t', ['p', 'q']],
    ['chapters[-1]', ['text']],
    ['n', ['3']],
    ['by', ['{"name":"Ann","tags":["x","y"]}']],
    ['none', []],
    ['blank', []],
    ['missing.deeper', []],
    ['title.length', []],
    ['hidden', []],
    ['constructor', []],
  ])('%s gives %j', (path, wanted) => {
    expect(texts(path)).toEqual(wanted)
  })

  test.each(['', '.', 'a.', '.a', 'a..b', 'a[', 'a[x]', 'a[1', 'a[1]b', 'a]', '$$.', '$.'])('%s is none', (path) => {
    expect(readPath(path)).toBeUndefined()
  })
})

test('each text counts once, whichever paths lead to it', () => {
  expect(texts('title', 'title', 'by.name', '$.by.name')).toEqual(['One', 'Ann'])
})

test('the whole item is one text, the same in whatever order its keys came', () => {
  const whole = [readPath('$') ?? []]
  const [text] = textsAt({ b: 1, a: { d: [1], c: 'x' } }, whole)
  expect(text).toBe('{"a":{"c":"x","d":[1]},"b":1}')
  expect(textsAt({ a: { c: 'x', d: [1] }, b: 1 }, whole)).toEqual([text])
})

test('texts are told apart by what they are known by', () => {
  expect(hashOf('a')).toHaveLength(22)
  expect(hashOf('a')).not.toBe(hashOf('b'))
})
