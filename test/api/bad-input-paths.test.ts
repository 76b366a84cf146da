import { describe, expect, test } from 'vitest'
import { kindsOf, type Operation, operations, type Schema } from '../support/operations.ts'
import { expectUnharmed, fault, hostileServer, JSON_TYPE, type Wanted, wrong } from './bad-input-server.ts'

const hostile = hostileServer()
const titled = (list: readonly Operation[]): [string, Operation][] => list.map((one) => [one.title, one])
const sentBy = (operation: Operation) =>
  operation.body ? { headers: JSON_TYPE, body: JSON.stringify(hostile.sample(operation)) } : {}

// As they stand in the path, byte for byte.
const ids = [
  '%00',
  'a%00b',
  '%ff',
  '%c0%af',
  '%ed%a0%80',
  '%',
  '%zz',
  '..%2f',
  '%2e%2e%2f%2e%2e%2finfo',
  '..%5c..%5cinfo',
  '%2F',
  'a%2Fb',
  '%252e%252e%252f',
  '%7B%22%24gt%22%3A%22%22%7D',
  '%5B%5D',
  '[object%20Object]',
  'null',
  'undefined',
  '__proto__',
  'constructor',
  "'%20or%20'1'='1",
  '1;drop%20table%20threads',
  '0',
  '-1',
  '00000000-0000-0000-0000-00000000000g',
  '00000000-0000-4000-8000-0000000000000',
  '{00000000-0000-4000-8000-000000000000}',
  'urn:uuid:00000000-0000-4000-8000-000000000000',
  '%E2%80%AE',
  `${'a'.repeat(8000)}`,
]
// What a path with these means is never what it says: they are not resolved, but refused.
const climbing = ['..', '.', '%2e%2e', '%2E.', '']

describe('an id in a path that is none', () => {
  const withIds = operations.filter(({ params }) => params.length > 0)

  test.each(titled(withIds))('is refused by %s, and reaches nothing else', async (_, operation) => {
    const cases = operation.params.flatMap(({ name, schema }) => ids.map((value) => ({ name, schema, value })))
    const judge = async ({ name, schema, value }: (typeof cases)[number]) => {
      const path = hostile.pathOf(operation, { param: name, value })
      const answer = await hostile.send({ method: operation.method, path, ...sentBy(operation) })
      const wanted: Wanted =
        schema.format === 'uuid'
          ? { status: 422, code: 'validation_failed', detail: new RegExp(`^path(\\.${name})?:`) }
          : { status: name === 'namespace' ? [200, 404, 422] : [404, 422] }
      return fault(answer, wanted)
    }
    expect(await wrong(cases, judge, ({ name, value }) => `${name} = ${value.slice(0, 60)}`)).toEqual([])
  })

  test.each(titled(withIds))('does not climb out of %s', async (_, operation) => {
    const cases = operation.params.flatMap(({ name }) => climbing.map((value) => ({ name, value })))
    const judge = async ({ name, value }: (typeof cases)[number]) => {
      const path = hostile.pathOf(operation, { param: name, value })
      const answer = await hostile.send({ method: operation.method, path, ...sentBy(operation) })
      return fault(answer, { status: [404, 405, 422] })
    }
    expect(await wrong(cases, judge, ({ name, value }) => `${name} = ${value}`)).toEqual([])
  })
})

test.each([
  '/threads/../info',
  '/threads/%2e%2e/info',
  '/threads/..%2finfo',
  '/./info',
  '//info',
  '/info/',
  '/info%2f',
  '/info%00',
  '/INFO',
  '/info;x=1',
  '/%69nfo/..',
  '/\\info',
])('the path %s does not reach /info by a detour', async (path) => {
  expect(fault(await hostile.send({ method: 'GET', path }), { status: [400, 404, 422] })).toBeUndefined()
})

describe('a query value of another kind', () => {
  const withQuery = operations.filter(({ query }) => query.length > 0)

  test.each(titled(withQuery))('is refused by %s, by its name', async (_, operation) => {
    const cases = operation.query.flatMap(({ name, schema }) =>
      [...hostileTexts, ...badFor(schema)].map((value) => ({ name, value })),
    )
    const judge = async ({ name, value }: (typeof cases)[number]) => {
      const given = new Map([[name, value]])
      if (operation.name === 'getItem') for (const key of ['namespace', 'key']) if (key !== name) given.set(key, 'a')
      const query = [...given].map(([key, text]) => `${key}=${text}`).join('&')
      const path = `${hostile.pathOf(operation).split('?')[0]}?${query}`
      const answer = await hostile.send({ method: operation.method, path, ...sentBy(operation) })
      const detail = hostileTexts.includes(value) ? /^(path|query)\b/ : new RegExp(`^query\\.${name}`)
      return fault(answer, { status: 422, code: 'validation_failed', detail })
    }
    expect(await wrong(cases, judge, ({ name, value }) => `${name}=${value.slice(0, 60)}`)).toEqual([])
  })
})

// Refused wherever they stand.
const hostileTexts = ['%00', 'a%00b']

function badFor(schema: Schema): string[] {
  const kinds = kindsOf(schema)
  if (schema.enum) return ['x', '', '__proto__', 'constructor', "'--", '%F0%9F%92%A9']
  if (schema.format === 'uuid') return ['x', '1', '%7B%22%24gt%22%3A%22%22%7D', "'%20or%201=1"]
  if (schema.type === 'integer')
    return ['x', '-1', '1.5', '1e3', '1e20', '99999999999999999999', '0x10', '%201', '+1', '%D9%A1', 'NaN', '[]', '1;2']
  if (schema.type === 'boolean') return ['x', '2', 'yes', '[]', 'null', '%20true']
  if (schema.type === 'array') {
    const items = schema.items || {}
    return items.enum || items.format ? ['x', '["x"]', "'--", 'values.', '[1]', '[{}]', '__proto__'] : []
  }
  if (kinds?.has('boolean')) return ['x', '-1', '1.5']
  return []
}

test.each([
  ['/threads/{t}/runs', 'limit', ['0', '1001', '-0', '']],
  ['/threads/{t}/history', 'limit', ['0', '1001', '']],
  ['/threads/{t}/history', 'before', ['', 'x']],
  ['/threads/{t}/runs', 'limit', ['1&limit=2']],
  ['/threads/{t}/runs', 'status', ['success&status=error', 'all']],
  ['/store/items', 'key', ['']],
])('GET %s refuses %s out of its bounds, empty or twice: %j', async (path, name, values) => {
  const good = path.startsWith('/store') ? '&namespace=a' : ''
  const judge = async (value: string) => {
    const asked = path.replace('{t}', String(hostile.known.thread_id))
    const detail = new RegExp(`^query\\.${name}`)
    return fault(await hostile.send({ method: 'GET', path: `${asked}?${name}=${value}${good}` }), {
      status: 422,
      detail,
    })
  }
  expect(await wrong(values, judge, (value) => value)).toEqual([])
})

test('a query of many keys, a long one, and one of broken escapes cost nothing', async () => {
  const path = `/threads/${hostile.known.thread_id}`
  const many = Array.from({ length: 500 }, (_, i) => `k${i}=1`).join('&')
  for (const query of [many, `q=${'a'.repeat(8_000)}`, '%zz=%zz', '__proto__=1&constructor=2', '&&&===', '[]=1'])
    expect((await hostile.send({ method: 'GET', path: `${path}?${query}` })).status).toBe(200)
})

test.each(['x', '-5', '1.5', '99999999999999999999', "1'", '01a2-5'])(
  'a Last-Event-ID of %j is refused',
  async (id) => {
    const { thread_id, run_id } = hostile.known
    for (const path of [`/threads/${thread_id}/runs/${run_id}/stream`, `/threads/${thread_id}/stream`]) {
      const answer = await hostile.send({ method: 'GET', path, headers: { 'last-event-id': id } })
      expect(fault(answer, { status: 422, detail: /^Last-Event-ID/ })).toBeUndefined()
    }
  },
)

test.each(['', 'a b', 'ü', 'x'.repeat(256)])('an Idempotency-Key of %j is refused', async (key) => {
  const headers = { ...JSON_TYPE, 'idempotency-key': key }
  const body = JSON.stringify({ assistant_id: 'notes' })
  const answer = await hostile.send({ method: 'POST', path: '/runs', headers, body })
  expect(fault(answer, { status: 422, detail: /^Idempotency-Key/ })).toBeUndefined()
})

test('after all of it, nothing is harmed', async () => {
  expectUnharmed(hostile)
  const { thread_id, run_id } = hostile.known
  expect((await hostile.server.client.runs.get(String(thread_id), String(run_id))).status).toBe('success')
})
