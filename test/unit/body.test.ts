import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { readBody } from '../../src/http/body.ts'
import { parseStrict } from '../../src/http/scan.ts'

const LIMIT = 1000

/** What a body reads as, or the status, code and detail of the refusal. */
async function read(body: string | Uint8Array | ReadableStream<Uint8Array>, headers: Record<string, string> = {}) {
  const init: RequestInit & { duplex: 'half' } = { method: 'POST', headers, body: body as BodyInit, duplex: 'half' }
  const request = new Request('http://heddle/', init)
  // a string brings a content type of its own
  if (!('content-type' in headers)) request.headers.delete('content-type')
  return readBody({ headers: request.headers, body: () => request.body }, LIMIT).then(
    ({ value }) => value,
    (error: unknown) => refusal(error),
  )
}

function refusal(error: unknown) {
  if (!(error instanceof ApiError)) throw error
  return { status: error.status, code: error.code, detail: error.message }
}

function strict(text: string) {
  try {
    return parseStrict(Buffer.from(text), text)
  } catch (error) {
    return refusal(error)
  }
}

const chunks = (...parts: string[]) =>
  new ReadableStream<Uint8Array>({
    pull(controller) {
      const part = parts.shift()
      if (part === undefined) controller.close()
      else controller.enqueue(Buffer.from(part))
    },
  })

describe('reading a body', () => {
  it.each([
    undefined,
    'application/json',
    'Application/JSON; charset=UTF-8',
    'text/plain;charset=utf-8',
    'application/x+json',
  ])('takes JSON sent as %s', async (type) => {
    expect(await read('{"a":[1,"é"]}', type === undefined ? {} : { 'content-type': type })).toEqual({ a: [1, 'é'] })
  })

  it.each([
    'application/x-www-form-urlencoded',
    'multipart/form-data',
    'text/html',
    'application/json; charset=utf-16',
  ])('refuses a body sent as %s', async (type) => {
    expect(await read('{}', { 'content-type': type })).toEqual({
      status: 415,
      code: 'unsupported_media_type',
      detail: 'The request body must be JSON in UTF-8: send Content-Type: application/json.',
    })
  })

  it('refuses a compressed body before it reads any of it', async () => {
    expect(await read('{}', { 'content-encoding': 'gzip' })).toMatchObject({
      status: 415,
      code: 'unsupported_media_type',
    })
    expect(await read('{}', { 'content-encoding': 'identity' })).toEqual({})
  })

  it('gives undefined where there is no body', async () => {
    expect(await read('')).toBeUndefined()
  })

  it('joins chunks that are cut inside a character', async () => {
    const bytes = Buffer.from('{"a":"😀"}')
    const cut = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(bytes.subarray(0, 8))
        controller.enqueue(bytes.subarray(8))
        controller.close()
      },
    })
    expect(await read(cut)).toEqual({ a: '😀' })
  })

  it('takes a body of exactly the limit and no more', async () => {
    const fits = JSON.stringify('x'.repeat(LIMIT - 2))
    expect(await read(fits)).toHaveLength(LIMIT - 2)
    expect(await read(`${fits} `)).toEqual({
      status: 413,
      code: 'body_too_large',
      detail: 'The request body is larger than the 1000 bytes that this server takes.',
    })
  })

  it('counts while reading: chunks without a length, and a length that lies', async () => {
    expect(await read(chunks('"', 'x'.repeat(900), 'x'.repeat(900), '"'))).toMatchObject({
      status: 413,
      code: 'body_too_large',
    })
    expect(await read(chunks('"', 'x'.repeat(2000)), { 'content-length': '5' })).toMatchObject({
      status: 413,
      code: 'body_too_large',
    })
    expect(await read(chunks('{}'), { 'content-length': '5000' })).toMatchObject({
      status: 413,
      code: 'body_too_large',
    })
  })

  it('stops reading a body that is too large', async () => {
    let sent = 0
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent++
        controller.enqueue(Buffer.alloc(600, 0x20))
      },
    })
    expect(await read(endless)).toMatchObject({ status: 413, code: 'body_too_large' })
    expect(sent).toBeLessThan(5)
  })

  it('says when a body ended too early', async () => {
    const broken = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.error(new Error('gone'))
      },
    })
    expect(await read(broken)).toEqual({
      status: 400,
      code: 'bad_request',
      detail: 'The request body ended too early.',
    })
  })

  it.each([
    ['malformed UTF-8', Buffer.from([0x22, 0xff, 0x22]), 'The request body is not valid UTF-8.'],
    ['UTF-16', Buffer.from('{"a":"\u00e9"}', 'utf16le'), 'The request body is not valid UTF-8.'],
    [
      'a surrogate written as UTF-8',
      Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]),
      'The request body is not valid UTF-8.',
    ],
    ['a byte order mark', Buffer.from('\ufeff{}'), 'The request body begins with a byte order mark: send it without.'],
  ])('refuses %s', async (_, bytes, detail) => {
    expect(await read(bytes)).toEqual({ status: 400, code: 'invalid_json', detail: detail })
  })
})

describe('strict JSON', () => {
  it.each([
    '{',
    '{"a":1}x',
    '{"a":1}{}',
    "{'a':1}",
    '[1,]',
    'NaN',
    '-Infinity',
    '01',
    '"\u0000"',
    '"a\nb"',
    '/**/1',
    '"\\x"',
    '}',
  ])('refuses %j as invalid', (text) => {
    expect(strict(text)).toMatchObject({ status: 400, code: 'invalid_json' })
  })

  it('never repeats the body when it says where it is invalid', () => {
    const invalid = { status: 400, code: 'invalid_json' }
    const detail = 'The request body is not valid JSON'
    expect(strict('{"password": hunter2}')).toEqual({ ...invalid, detail: `${detail}.` })
    expect(strict('{"password": "hunter2"')).toEqual({ ...invalid, detail: `${detail}: look at character 22.` })
    expect(strict('{"password":')).toEqual({ ...invalid, detail: `${detail}: it ends too early.` })
  })

  it.each([
    ['a deep array', '['.repeat(201) + ']'.repeat(201), 'body: must not be nested deeper than 200 levels'],
    ['a deep object', `${'{"a":'.repeat(201)}1${'}'.repeat(201)}`, 'body: must not be nested deeper than 200 levels'],
    ['a very deep body that never ends', '['.repeat(1_000_000), 'body: must not be nested deeper than 200 levels'],
    ['NUL in a string', '{"a":{"b":["x","\\u0000"]}}', 'body.a.b[1]: must not contain the NUL character'],
    ['NUL in a key', '{"a":{"x\\u0000":1}}', 'body.a: has a key that must not contain the NUL character'],
    ['NUL in a body that is only a string', '"\\u0000"', 'body: must not contain the NUL character'],
    ['half of a surrogate pair', '{"a":"\\ud800"}', 'body.a: must not contain half of a surrogate pair'],
    ['the other half', '{"a":"\\uDC00\\ud83d"}', 'body.a: must not contain half of a surrogate pair'],
    ['half of a pair in a key', '{"\\ud800":1}', 'body: has a key that must not contain half of a surrogate pair'],
    ['a key twice', '{"metadata":{"owner":"a","owner":"b"}}', 'body.metadata.owner: appears twice'],
    ['a key twice, written differently', '{"a":1,"\\u0061":2}', 'body.a: appears twice'],
    ['a numeric key twice', '{"1":1,"1":2}', 'body.1: appears twice'],
    ['__proto__', '{"a":[{"__proto__":{"admin":true}}]}', 'body.a[0].__proto__: is not allowed as a key'],
    ['__proto__, escaped', '{"\\u005f_proto__":1}', 'body.__proto__: is not allowed as a key'],
    [
      'an integer that would lose digits',
      '{"a":{"id":9007199254740993}}',
      'body.a.id: is a whole number beyond 2^53, which would lose digits: send it as a string',
    ],
    [
      'a negative one',
      '[-9007199254740992]',
      'body[0]: is a whole number beyond 2^53, which would lose digits: send it as a string',
    ],
    ['an infinite number', '{"a":1e400}', 'body.a: is too large for a number'],
    ['an infinite number with many digits', `[1,-${'9'.repeat(400)}.0]`, 'body[1]: is too large for a number'],
    ['a strange key', '{"a b":{"c":"\\u0000"}}', 'body["a b"].c: must not contain the NUL character'],
  ])('refuses %s, naming the place', (_, text, detail) => {
    expect(strict(text)).toEqual({ status: 422, code: 'validation_failed', detail: detail })
  })

  it.each([
    ['depth of exactly 200', '['.repeat(200) + ']'.repeat(200)],
    ['brackets and colons inside strings', '{"a":"[[[{{{::::\\"}}","b:":"\\\\"}'],
    ['the largest safe integers', '[9007199254740991,-9007199254740991,0,-0]'],
    ['floats with many digits and exponents', '[0.12345678901234567890,1e300,1E+20,5e-324,123456789012345678.5]'],
    ['digits inside strings', '{"a":"99999999999999999999"}'],
    ['the same key in different objects', '{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}'],
    ['keys that only sound dangerous', '{"constructor":{"prototype":1},"toString":1,"hasOwnProperty":2,"proto":3}'],
    ['surrogate pairs, escaped and not', '["\\ud83d\\ude00","😀","\\u00e9","\\\\u0000"]'],
    ['a string, a number, null', 'null'],
  ])('lets %s through unchanged', (_, text) => {
    expect(JSON.stringify(strict(text))).toBe(JSON.stringify(JSON.parse(text)))
  })

  it('lets every clean JSON value through unchanged, however it is spaced', () => {
    const clean = fc
      .jsonValue({ maxDepth: 6 })
      .filter((value) => !/"__proto__"|\\u0000|\\ud[89a-f]/.test(JSON.stringify(value)) && !unsafe(value))
    fc.assert(
      fc.property(clean, fc.constantFrom(undefined, 1, '\t'), (value, space) => {
        const text = JSON.stringify(value, null, space)
        expect(strict(text)).toStrictEqual(JSON.parse(text))
      }),
      { numRuns: 500 },
    )
  })

  it('finds one forbidden thing wherever it is put', () => {
    const bad = fc.constantFrom('"\\u0000"', '{"__proto__":1}', '{"k":1,"k":2}', '1e999', '12345678901234567890')
    fc.assert(
      fc.property(fc.array(fc.jsonValue({ maxDepth: 3 }), { maxLength: 5 }), bad, fc.nat(5), (values, text, at) => {
        const items = values.map((value) => JSON.stringify(value))
        items.splice(at, 0, `{"in":[${text}]}`)
        expect(strict(`[${items.join(',')}]`)).toMatchObject({ status: 422, code: 'validation_failed' })
      }),
    )
  })
})

function unsafe(value: unknown): boolean {
  if (typeof value === 'number') return /^-?\d+$/.test(String(value)) && !Number.isSafeInteger(value)
  return typeof value === 'object' && value !== null && Object.values(value).some(unsafe)
}
