// What the outcome of a try means, and how a delivery is signed.

import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { createSign } from '../../src/worker/webhook-signature.ts'
import { judge, RETRY_SECONDS } from '../../src/worker/webhook-verdict.ts'

const NOW = Date.parse('2030-01-01T00:00:00Z')
const answered = (status: number, attempt = 1, retryAfter?: string, random = 0) =>
  judge({ status, retryAfter }, attempt, random, NOW)

describe('the verdict on a try', () => {
  test.each([200, 201, 202, 204, 299])('%i is delivered', (status) => {
    expect(answered(status)).toEqual({ status: 'delivered', in_seconds: 0, last_status: status, last_error: null })
  })

  test.each([
    [301, 'The receiver answered 301: redirects are not followed.'],
    [307, 'The receiver answered 307: redirects are not followed.'],
    [400, 'The receiver answered 400.'],
    [404, 'The receiver answered 404.'],
    [429, 'The receiver answered 429.'],
    [500, 'The receiver answered 500.'],
    [503, 'The receiver answered 503.'],
  ])('%i is tried again', (status, last_error) => {
    expect(answered(status)).toEqual({ status: 'pending', in_seconds: 5, last_status: status, last_error })
  })

  test('410 stops', () => {
    expect(answered(410)).toMatchObject({
      status: 'failed',
      last_error: 'The receiver answered 410, so nothing more is sent.',
    })
  })

  test('tries come after 5 s, 30 s, 5 min, 30 min, 2 h, 5 h and 10 h, up to a fifth later, and then no more', () => {
    const waits = [1, 2, 3, 4, 5, 6, 7].map((attempt) => answered(500, attempt).in_seconds)
    expect(waits).toEqual([5, 30, 5 * 60, 30 * 60, 2 * 3_600, 5 * 3_600, 10 * 3_600])
    expect(waits).toEqual(RETRY_SECONDS)
    expect(answered(500, 2, undefined, 0.5).in_seconds).toBeCloseTo(33)
    expect(answered(500, 2, undefined, 1).in_seconds).toBeCloseTo(36)
    expect(answered(500, 8)).toMatchObject({ status: 'failed', last_status: 500 })
    expect(answered(500, 9)).toMatchObject({ status: 'failed' })
  })

  test('Retry-After is honoured as seconds and as a date, never for less than the schedule nor for more than a day', () => {
    expect(answered(429, 1, '120').in_seconds).toBe(120)
    expect(answered(503, 1, 'Tue, 01 Jan 2030 00:10:00 GMT').in_seconds).toBe(600)
    expect(answered(429, 3, '10').in_seconds).toBe(300)
    expect(answered(429, 1, 'Mon, 31 Dec 2029 00:00:00 GMT').in_seconds).toBe(5)
    expect(answered(429, 1, '99999999999').in_seconds).toBe(86_400)
    expect(answered(429, 1, 'soon').in_seconds).toBe(5)
  })

  test('no answer is tried again, and what was refused is not', () => {
    const reason = 'The receiver refused the connection.'
    expect(judge({ reason, final: false }, 1, 0, NOW)).toEqual({
      status: 'pending',
      in_seconds: 5,
      last_status: null,
      last_error: reason,
    })
    expect(judge({ reason, final: true }, 1, 0, NOW)).toMatchObject({ status: 'failed', last_error: reason })
  })
})

describe('signatures', () => {
  const secret = (byte: number) => `whsec_${Buffer.alloc(32, byte).toString('base64')}`
  const [first, second] = [secret(1), secret(2)]
  const id = '01234567-89ab-4cde-8f01-23456789abcd'
  const body = '{"text":"ä\u2028 \\u0000"}'
  const now = () => Math.floor(Date.now() / 1_000)

  test('the official library verifies them', () => {
    const headers = createSign([first])(id, now(), body)
    expect(headers).toMatchObject({ 'webhook-id': id, 'webhook-signature': expect.stringMatching(/^v1,[\w+/=]{44}$/) })
    expect(new Webhook(first).verify(body, headers)).toEqual(JSON.parse(body))
  })

  test('another body, id, time or secret is found out, and an old one too', () => {
    const headers = createSign([first])(id, now(), body)
    const verify =
      (changed: object, text = body, by = first) =>
      () =>
        new Webhook(by).verify(text, { ...headers, ...changed } as Record<string, string>)
    expect(verify({}, `${body} `)).toThrow()
    expect(verify({ 'webhook-id': id.replace('0', '1') })).toThrow()
    expect(verify({ 'webhook-timestamp': String(now() + 1) })).toThrow()
    expect(verify({}, body, second)).toThrow()
    const old = createSign([first])(id, now() - 600, body)
    expect(() => new Webhook(first).verify(body, old)).toThrow(/too old/)
  })

  test('with two secrets, receivers that know either of them verify', () => {
    const headers = createSign([first, second])(id, now(), body)
    expect(headers['webhook-signature']?.split(' ')).toHaveLength(2)
    for (const known of [first, second]) expect(new Webhook(known).verify(body, headers)).toEqual(JSON.parse(body))
  })

  test('without a secret nothing is signed, and what is no secret is refused', () => {
    expect(createSign([])(id, 1, body)).toEqual({ 'webhook-id': id, 'webhook-timestamp': '1' })
    for (const bad of ['secret', 'whsec_', 'whsec_c2hvcnQ=', `whsec_${Buffer.alloc(65).toString('base64')}`])
      expect(() => createSign([bad])).toThrow(/whsec_/)
  })
})
