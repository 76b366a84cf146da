import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import {
  fieldsOf,
  kindOf,
  kindsOf,
  type Operation,
  operations,
  placeOf,
  resolve,
  withAt,
} from '../support/operations.ts'
import type { Answer } from '../support/raw.ts'
import { expectUnharmed, fault, hostileServer, JSON_TYPE, type Wanted, wrong } from './bad-input-server.ts'

const hostile = hostileServer()
const withBody = operations.filter(({ body }) => body !== undefined)
const titled = (list: readonly Operation[]): [string, Operation][] => list.map((one) => [one.title, one])

/** The text of a good body with one more member in its first object. */
function poisoned(sample: unknown, member: string): string {
  const text = JSON.stringify(sample)
  const at = text.indexOf('{') + 1
  return `${text.slice(0, at)}${member}${text[at] === '}' ? '' : ','}${text.slice(at)}`
}
const nested = (levels: number, open: string, close: string) => open.repeat(levels) + close.repeat(levels)
const bytes = (text: string, ...raw: number[]) => {
  const [before = '', after = ''] = text.split('@')
  return Buffer.concat([Buffer.from(before), Buffer.from(raw), Buffer.from(after)])
}

interface BodyCase {
  what: string
  body(sample: unknown): string | Uint8Array
  headers?: Record<string, string>
  wanted: Wanted
}
const notJson: Wanted = { status: 400, code: 'invalid_json' }
const refused = (detail: RegExp): Wanted => ({ status: 422, code: 'validation_failed', detail })
const otherType: Wanted = { status: 415, code: 'unsupported_media_type' }
const member = (what: string, text: string, detail: RegExp): BodyCase => ({
  what,
  body: (sample) => poisoned(sample, text),
  wanted: refused(detail),
})
const zz = /^body(\[0\])?\.zz/

const bodies: BodyCase[] = [
  { what: 'half of a value', body: () => '{"a":', wanted: notJson },
  { what: 'a value and more', body: (sample) => `${JSON.stringify(sample)} x`, wanted: notJson },
  { what: 'two values', body: (sample) => JSON.stringify(sample).repeat(2), wanted: notJson },
  { what: 'single quotes', body: () => "{'a':1}", wanted: notJson },
  { what: 'NaN', body: (sample) => poisoned(sample, '"zz":NaN'), wanted: notJson },
  { what: 'Infinity', body: (sample) => poisoned(sample, '"zz":-Infinity'), wanted: notJson },
  { what: 'a comma too many', body: (sample) => poisoned(sample, '"zz":[1,]'), wanted: notJson },
  { what: 'a comment', body: (sample) => `/* */${JSON.stringify(sample)}`, wanted: notJson },
  { what: 'a line break in a string', body: (sample) => poisoned(sample, '"zz":"a\nb"'), wanted: notJson },
  { what: 'a bad escape', body: (sample) => poisoned(sample, '"zz":"\\x41"'), wanted: notJson },
  { what: 'an open string at the end', body: () => '{"a":"\\', wanted: notJson },
  { what: 'a form', body: () => 'a=1&b=2', wanted: notJson },
  {
    what: 'a byte order mark',
    body: (sample) => bytes(`@${JSON.stringify(sample)}`, 0xef, 0xbb, 0xbf),
    wanted: notJson,
  },
  { what: 'UTF-16', body: (sample) => Buffer.from(`\ufeff${JSON.stringify(sample)}`, 'utf16le'), wanted: notJson },
  { what: 'a lone byte', body: (sample) => bytes(poisoned(sample, '"zz":"@"'), 0xff), wanted: notJson },
  { what: 'an overlong form', body: (sample) => bytes(poisoned(sample, '"zz":"@"'), 0xc0, 0xaf), wanted: notJson },
  { what: 'a cut character', body: (sample) => bytes(poisoned(sample, '"zz":"@"'), 0xe2, 0x82), wanted: notJson },
  { what: 'a raw surrogate', body: (sample) => bytes(poisoned(sample, '"zz":"@"'), 0xed, 0xa0, 0x80), wanted: notJson },
  member('a key twice', '"zz":1,"zz":2', zz),
  member('a key twice, written otherwise', '"zz":1,"\\u007az":2', zz),
  member('a key twice, deep', '"zz":{"a":[{"b":1,"b":1}]}', /zz\.a\[0\]\.b/),
  member('__proto__', '"__proto__":{"polluted":1}', /__proto__/),
  member('__proto__, deep', '"zz":[{"__proto__":{"polluted":1}}]', /zz\[0\]\.__proto__/),
  member('__proto__, written otherwise', '"zz":{"__proto_\\u005f":{"polluted":1}}', /zz\.__proto__/),
  member('NUL in a value', '"zz":"a\\u0000b"', zz),
  member('NUL in a key', '"zz":{"a\\u0000b":1}', zz),
  member('half a pair in a value', '"zz":["\\ud83d"]', /zz\[0\]/),
  member('half a pair in a key', '"zz":{"\\udc00":1}', zz),
  member('a pair the wrong way round', '"zz":"\\udc00\\ud83d"', zz),
  member('arrays 201 deep', `"zz":${nested(200, '[', ']')}`, /nested deeper than 200/),
  member('arrays 100000 deep', `"zz":${nested(100_000, '[', ']')}`, /nested deeper than 200/),
  member('objects 201 deep', `"zz":${'{"a":'.repeat(200)}1${'}'.repeat(200)}`, /nested deeper than 200/),
  member('2^53 + 1', '"zz":9007199254740993', zz),
  member('-2^53 - 1', '"zz":-9007199254740993', zz),
  member('a hundred digits', `"zz":${'9'.repeat(100)}`, zz),
  member('1e400', '"zz":1e400', zz),
  member('-1e200000', '"zz":[-1E+200000]', zz),
  member('400 digits before the point', `"zz":${'9'.repeat(400)}.5`, zz),
  ...['text/html', 'application/x-www-form-urlencoded', 'application/json; charset=utf-16', 'nonsense'].map(
    (type): BodyCase => ({
      what: type,
      body: (sample) => JSON.stringify(sample),
      headers: { 'content-type': type },
      wanted: otherType,
    }),
  ),
  ...['gzip', 'deflate', 'br', 'identity, gzip'].map(
    (encoding): BodyCase => ({
      what: `content-encoding ${encoding}`,
      body: (sample) => gzipSync(JSON.stringify(sample)),
      headers: { ...JSON_TYPE, 'content-encoding': encoding },
      wanted: otherType,
    }),
  ),
]

describe('a body that is no clean JSON', () => {
  test.each(titled(withBody))('is refused by %s, with the reason', async (_, operation) => {
    const { method } = operation
    const path = hostile.pathOf(operation)
    const sample = hostile.sample(operation)
    const judge = async ({ body, headers = JSON_TYPE, wanted }: BodyCase) =>
      fault(await hostile.send({ method, path, headers, body: body(sample) }), wanted)
    expect(await wrong(bodies, judge, ({ what }) => what)).toEqual([])
  })
})

/** A refused command as other operations would have refused it: its answer has a form of its own. */
function asRefusal(operation: Operation, answer: Answer): Answer {
  if (operation.name !== 'sendCommand' || ![200, 400].includes(answer.status)) return answer
  const { type, error, message } = JSON.parse(answer.text) as { type: string; error: string; message: string }
  if (type !== 'error' || error !== 'invalid_argument') return answer
  const detail = message.replace(/^params/, 'body.params').replace(/^command/, 'body')
  return { ...answer, status: 422, text: JSON.stringify({ code: 'validation_failed', detail }) }
}

const values: unknown[] = [null, true, 0, -1, 1.5, '', 'x', [], [null], {}, { $gt: '' }, [[]]]

describe('a field of another type', () => {
  test.each(titled(withBody))('is refused by %s, by its name', async (_, operation) => {
    const { method, body = {} } = operation
    const path = hostile.pathOf(operation)
    const sample = hostile.sample(operation)
    const whole = { path: [] as (string | number)[], schema: body }
    const cases = [whole, ...fieldsOf(body)].flatMap((field) => {
      const kinds = kindsOf(field.schema)
      return values.filter((value) => kinds && !kinds.has(kindOf(value))).map((value) => ({ ...field, value }))
    })
    const judge = async (one: (typeof cases)[number]) => {
      const sent = JSON.stringify(withAt(sample, one.path, one.value))
      // Alternatives are told apart at the place where they differ, which may be further up.
      const [top = ''] = [placeOf(one.path.slice(0, 1))]
      const named = operation.name === 'cancelRuns' ? /^body/ : new RegExp(`^${top.replaceAll(/[[\].$]/g, '\\$&')}`)
      const answer = await hostile.send({ method, path, headers: JSON_TYPE, body: sent })
      return fault(asRefusal(operation, answer), refused(named))
    }
    const title = (one: (typeof cases)[number]) => `${placeOf(one.path)} = ${JSON.stringify(one.value)}`
    expect(await wrong(cases, judge, title)).toEqual([])
    expect(cases.length).toBeGreaterThan(3)
  })
})

const badTexts: [what: string, json: string][] = [
  ['NUL', '"\\u0000"'],
  ['half a pair', '"a\\ud800"'],
  ['a key with NUL', '{"\\u0000":1}'],
  ['a key of half a pair', '{"\\udfff":1}'],
  ['__proto__', '{"__proto__":{"polluted":1}}'],
  ['a number beyond 2^53', '9007199254740993'],
  ['1e400', '1e400'],
]

describe('a hostile value in any field', () => {
  test.each(titled(withBody))('is refused by %s, by its place', async (_, operation) => {
    const { method, body = {} } = operation
    const path = hostile.pathOf(operation)
    const cases = fieldsOf(body).flatMap((field) => badTexts.map(([what, json]) => ({ ...field, what, json })))
    const judge = async (one: (typeof cases)[number]) => {
      const text = JSON.stringify(withAt(hostile.sample(operation), one.path, '@')).replace('"@"', one.json)
      const place = new RegExp(`^${placeOf(one.path).replaceAll(/[[\].$]/g, '\\$&')}`)
      return fault(await hostile.send({ method, path, headers: JSON_TYPE, body: text }), refused(place))
    }
    expect(await wrong(cases, judge, (one) => `${placeOf(one.path)} = ${one.what}`)).toEqual([])
  })
})

test('after all of it, nothing is harmed', () => {
  expectUnharmed(hostile)
})

test.each(titled(operations))(
  'the good request that these tests begin with is understood: %s',
  async (_, operation) => {
    const { method, body } = operation
    const sent = body ? { headers: JSON_TYPE, body: JSON.stringify(hostile.sample(operation)) } : {}
    const { status, text } = await hostile.send({ method, path: hostile.pathOf(operation), ...sent })
    const { code } = status < 400 ? { code: '' } : (JSON.parse(text) as { code: string })
    expect([400, 405, 413, 415, 500, 503], text).not.toContain(status)
    expect(['validation_failed', 'not_supported'], text).not.toContain(code)
    expect(resolve(body ?? {})).toBeDefined()
  },
)
