import { describe, expect, it } from 'vitest'
import type { z } from 'zod'
import { allEndpoints } from '../../src/contract/all.ts'
import * as assistants from '../../src/contract/assistants.ts'
import { explain, problemOf } from '../../src/contract/problem.ts'
import * as state from '../../src/contract/state.ts'
import * as store from '../../src/contract/store.ts'
import * as threadRuns from '../../src/contract/thread-runs.ts'
import * as threads from '../../src/contract/threads.ts'

const UUID = 'fe096781-5601-53d2-b2f6-0d3403f7e9ca'

/** What the schema gives, or the sentence that a client would read. */
const parse = (schema: z.ZodType, value: unknown, part: 'body' | 'query' | 'path' = 'body'): unknown => {
  const result = schema.safeParse(value, { error: explain })
  return result.success ? result.data : problemOf(part, result.error).detail
}
const query = (schema: z.ZodType, value: unknown) => parse(schema, value, 'query')

describe('threads', () => {
  it('fills in defaults and takes null for absent', () => {
    expect(parse(threads.threadCreate, { thread_id: null, metadata: null, ttl: null })).toEqual({
      metadata: {},
      if_exists: 'raise',
    })
    expect(parse(threads.threadSearch, {})).toEqual({
      limit: 10,
      offset: 0,
      sort_by: 'created_at',
      sort_order: 'desc',
    })
  })

  it('takes a ttl as minutes or as an object', () => {
    expect(parse(threads.threadPatch, { ttl: 5 })).toEqual({ ttl: { ttl: 5, strategy: 'delete' } })
    const kept = { ttl: 0.5, strategy: 'keep_latest' }
    expect(parse(threads.threadPatch, { ttl: kept })).toEqual({ ttl: kept })
  })

  it('gives ids in lower case, whatever their version', () => {
    const id = 'AAAAAAAA-BBBB-0CCC-0DDD-EEEEEEEEEEEE'
    expect(parse(threads.threadParams, { thread_id: id })).toEqual({ thread_id: id.toLowerCase() })
  })

  it('reads extract paths into steps', () => {
    const extract = { last: 'values.messages[-1].content', all: 'values', first: 'metadata[0]' }
    expect(parse(threads.threadSearch, { extract })).toMatchObject({
      extract: { last: ['values', 'messages', -1, 'content'], all: ['values'], first: ['metadata', 0] },
    })
  })

  it.each([
    [{ thread_id: 'x' }, 'body.thread_id: must be a UUID'],
    [{ thread_id: { $gt: '' } }, 'body.thread_id: must be a string'],
    [{ metadata: [] }, 'body.metadata: must be an object'],
    [{ if_exists: 'no' }, 'body.if_exists: must be one of: raise, do_nothing'],
    [{ ttl: 0 }, 'body.ttl: must be more than 0'],
    [{ ttl: { ttl: -1 } }, 'body.ttl.ttl: must be more than 0'],
    [{ supersteps: [{ updates: [] }] }, 'body.supersteps[0].updates: must have at least 1 item'],
    [{ supersteps: [{ updates: [{ values: {} }] }] }, 'body.supersteps[0].updates[0].as_node: is required'],
  ])('refuses to create %j', (body, detail) => {
    expect(parse(threads.threadCreate, body)).toBe(detail)
  })

  it.each([
    [{ limit: 0 }, 'body.limit: must be at least 1'],
    [{ limit: 1001 }, 'body.limit: must be at most 1000'],
    [{ limit: 1.5 }, 'body.limit: must be a whole number'],
    [{ limit: '5' }, 'body.limit: must be a number'],
    [{ offset: -1 }, 'body.offset: must be at least 0'],
    [{ status: 'gone' }, 'body.status: must be one of: idle, busy, interrupted, error'],
    [{ ids: ['x'] }, 'body.ids[0]: must be a UUID'],
    [{ select: ['secret'] }, /^body\.select\[0\]: must be one of: thread_id, /],
    [{ extract: { a: 'values..x' } }, /^body\.extract\.a: must be a path from values, metadata, config, interrupts/],
    [{ extract: { a: 'valuesx' } }, /^body\.extract\.a: must be a path from/],
    [{ extract: { a: "values.x'; drop" } }, undefined],
    [
      { extract: Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`a${i}`, 'values'])) },
      'body.extract: must have at most 10 paths',
    ],
  ])('checks the search %j', (body, detail) => {
    const result = parse(threads.threadSearch, body)
    if (detail === undefined) expect(result).toBeTypeOf('object')
    else if (typeof detail === 'string') expect(result).toBe(detail)
    else expect(result).toMatch(detail)
  })

  it('takes include and stream modes as repeated keys, JSON and comma lists, under both names', () => {
    const { query: include } = threads.getThread
    for (const given of ['ttl', ['ttl'], '["ttl"]']) {
      expect(query(include as z.ZodType, { include: given })).toEqual({ include: ['ttl'] })
    }
    const modes = threads.streamThread.query as z.ZodType
    expect(query(modes, {})).toEqual({ stream_mode: ['run_modes'] })
    expect(query(modes, { stream_modes: 'lifecycle,state_update' })).toEqual({
      stream_mode: ['lifecycle', 'state_update'],
    })
    expect(query(modes, { stream_mode: ['lifecycle'] })).toEqual({ stream_mode: ['lifecycle'] })
  })
})

describe('state', () => {
  it('brings checkpoint and checkpoint_id to one', () => {
    expect(parse(state.stateUpdate, { values: { a: 1 }, checkpoint_id: UUID.toUpperCase() })).toEqual({
      values: { a: 1 },
      as_node: undefined,
      checkpoint: { checkpoint_id: UUID },
    })
    const checkpoint = { checkpoint_id: null, checkpoint_ns: '', checkpoint_map: null, thread_id: 'ignored' }
    expect(parse(state.stateUpdate, { checkpoint })).toMatchObject({ values: null, checkpoint: { checkpoint_ns: '' } })
    expect(parse(state.stateUpdate, { checkpoint: {} })).toMatchObject({ checkpoint: undefined })
  })

  it.each([[UUID], [{ checkpoint_id: UUID }], [{ configurable: { checkpoint_id: UUID, thread_id: 'x' } }]])(
    'takes %j as before',
    (before) => {
      expect(parse(state.historySearch, { before })).toEqual({ limit: 10, before: { checkpoint_id: UUID } })
    },
  )

  it('takes select with keys of values', () => {
    const schema = state.getState.query as z.ZodType
    expect(query(schema, { select: ['next', 'values.a,b'], subgraphs: 'True' })).toEqual({
      subgraphs: true,
      select: ['next', 'values.a,b'],
    })
    expect(query(schema, { select: '["values.a"]' })).toEqual({ subgraphs: false, select: ['values.a'] })
  })

  it.each([
    [{ select: 'values.' }, /^query\.select\[0\]: must be one of: values, next, .*values\.<key>$/],
    [{ subgraphs: 'yes' }, /^query\.subgraphs: must be one of: true, false, 1, 0$/],
    [{ subgraphs: ['1', '0'] }, /^query\.subgraphs: must be a string$/],
  ])('refuses to read state with %j', (given, detail) => {
    expect(query(state.getState.query as z.ZodType, given)).toMatch(detail)
  })
})

describe('run queries', () => {
  it('reads numbers, flags and lists from text', () => {
    expect(query(threadRuns.listRuns.query as z.ZodType, { limit: '5', select: ['run_id', 'kwargs'] })).toEqual({
      limit: 5,
      offset: 0,
      select: ['run_id', 'kwargs'],
    })
    const joined = query(threadRuns.joinQuery, { cancel_on_disconnect: '0', namespace: '', stream_mode: 'values' })
    expect(joined).toEqual({ cancel_on_disconnect: false, namespace: [''], stream_mode: ['values'] })
    expect(query(threadRuns.cancelRun.query as z.ZodType, { wait: '0' })).toEqual({ wait: false, action: 'interrupt' })
  })

  it.each([
    [threadRuns.listRuns, { limit: '1e3' }, 'query.limit: must be a whole number'],
    [threadRuns.listRuns, { limit: '99999999999999999999' }, 'query.limit: must be a whole number'],
    [threadRuns.listRuns, { limit: '-1' }, 'query.limit: must be at least 1'],
    [threadRuns.cancelRun, { action: 'stop' }, 'query.action: must be one of: interrupt, rollback'],
    [
      threadRuns.cancelRun,
      { action: 'rollback', reason: 'taken' },
      'query.reason: can only be given with action=interrupt',
    ],
  ])('refuses a bad query', (endpoint, given, detail) => {
    expect(query(endpoint.query as z.ZodType, given)).toBe(detail)
  })

  it('cancels many by status or by ids, nothing else', () => {
    expect(parse(threadRuns.cancelBody, { status: 'all' })).toEqual({ status: 'all' })
    expect(parse(threadRuns.cancelBody, { thread_id: UUID, run_ids: [UUID] })).toEqual({
      thread_id: UUID,
      run_ids: [UUID],
    })
    expect(parse(threadRuns.cancelBody, {})).toBe('body: must have either thread_id and run_ids, or status')
    expect(parse(threadRuns.cancelBody, { thread_id: UUID, run_ids: ['x'] })).toBe('body.run_ids[0]: must be a UUID')
  })
})

describe('assistants', () => {
  it('keeps what a patch leaves out, and lets a description be cleared', () => {
    expect(parse(assistants.assistantPatch, { description: null, name: null, config: null })).toEqual({
      description: null,
    })
  })

  it('drops server-owned keys of a stored config', () => {
    const configurable = { thread_id: UUID, run_id: UUID, checkpoint_id: UUID, langgraph_host: 'x', model: 'm' }
    const parsed = parse(assistants.assistantCreate, { graph_id: 'agent', config: { configurable, tags: ['a'], x: 1 } })
    expect(parsed).toMatchObject({ name: 'Untitled', if_exists: 'raise', metadata: {} })
    expect((parsed as assistants.AssistantCreate).config).toEqual({ configurable: { model: 'm' }, tags: ['a'], x: 1 })
  })

  it.each([
    [undefined, false],
    ['0', false],
    ['true', true],
    ['2', 2],
    ['deep', 'query.xray: must be true, false or a depth'],
  ])('reads xray=%s', (xray, expected) => {
    const result = query(assistants.getGraph.query as z.ZodType, { xray })
    expect(typeof expected === 'string' ? result : (result as { xray: unknown }).xray).toBe(expected)
  })
})

describe('store', () => {
  it('takes a namespace as an array, and with dots between the labels', () => {
    for (const namespace of [['a', 'b'], 'a.b']) {
      expect(parse(store.itemPut, { namespace, key: 'k', value: {} })).toMatchObject({ namespace: ['a', 'b'] })
    }
    for (const namespace of [['a', 'b'], 'a.b', '["a","b"]']) {
      const read = query(store.getItem.query as z.ZodType, { namespace, key: 'k' })
      expect(read).toEqual({ namespace: ['a', 'b'], key: 'k' })
    }
  })

  it.each([
    ['an empty namespace', { namespace: [] }, 'body.namespace: must have at least 1 item'],
    ['an empty label', { namespace: ['a', ''] }, 'body.namespace[1]: must not be empty'],
    ['a dot in a label', { namespace: ['a.b'] }, 'body.namespace[0]: must not contain a dot'],
    ['a label too long', { namespace: ['x'.repeat(513)] }, 'body.namespace[0]: must be at most 512 bytes long'],
    [
      'a label too long in bytes',
      { namespace: ['é'.repeat(257)] },
      'body.namespace[0]: must be at most 512 bytes long',
    ],
    ['too many labels', { namespace: Array(17).fill('a') }, 'body.namespace: must have at most 16 items'],
    [
      'an address too long for the index',
      { namespace: Array(5).fill('x'.repeat(500)) },
      'body.namespace: and key must be at most 2048 bytes long together',
    ],
    ['an empty key', { key: '' }, 'body.key: must not be empty'],
    ['a key that is no string', { key: { $ne: '' } }, 'body.key: must be a string'],
    ['a value that is a list', { value: [] }, 'body.value: must be an object'],
    ['a value that is null', { value: null }, 'body.value: must be an object'],
    ['a negative ttl', { ttl: -1 }, 'body.ttl: must be more than 0'],
    ['an index that is neither false nor fields', { index: true }, 'body.index: must be false, or a list of fields'],
  ])('refuses %s', (_, part, detail) => {
    expect(parse(store.itemPut, { namespace: ['a'], key: 'k', value: {}, ...part })).toBe(detail)
  })

  it('refuses operators it does not have, instead of widening the search', () => {
    expect(parse(store.itemSearch, { filter: { a: { $in: [1] } } })).toBe(
      'body.filter.a.$in: is no operator: use one of $eq, $ne, $gt, $gte, $lt, $lte',
    )
    expect(parse(store.itemSearch, { filter: { a: { $gt: 1 }, b: { c: 1 } }, query: null })).toMatchObject({
      limit: 10,
    })
  })
})

describe('the list of endpoints', () => {
  it('declares no method and path twice', () => {
    const places = allEndpoints.map(([, { method, path }]) => `${method} ${path.replaceAll(/\{\w+\}/g, '{}')}`)
    expect(places.filter((place, i) => places.indexOf(place) !== i)).toEqual([])
    expect(places).toHaveLength(66)
  })

  it('declares a schema for exactly the parameters in each path', () => {
    for (const [name, { path, params }] of allEndpoints) {
      const named = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1])
      const declared = params ? Object.keys((params as unknown as z.ZodObject).shape) : []
      expect(declared, name).toEqual(named)
    }
  })

  it('asks for a permission everywhere but about the server itself', () => {
    for (const [name, { tag, permission }] of allEndpoints)
      expect(permission === undefined, name).toBe(tag === 'System')
  })

  it('never repeats what was sent in a refusal', () => {
    const secret = 'sk-very-secret'
    const bodies = allEndpoints.flatMap(([, { body }]) => (body ? [body] : []))
    for (const body of bodies) expect(String(parse(body, secret))).not.toContain(secret)
    expect(parse(threads.threadSearch, { status: secret })).not.toContain(secret)
  })
})
