// The dispatcher by itself, on an embedded database without a worker: who may not see a thread, what the server's own failures
// become, and an encrypted database.

import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AesKeys, parseAesKeys } from '../../src/aes-keys.ts'
import { createMemoryBus } from '../../src/bus/memory.ts'
import type { Database } from '../../src/db/db.ts'
import { json } from '../../src/db/json.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDatabase } from '../../src/db/open.ts'
import { all, type Sql, sql } from '../../src/db/sql.ts'
import * as state from '../../src/db/state.ts'
import { ApiError } from '../../src/errors.ts'
import { createRegistry, ensureAssistants } from '../../src/graph/registry.ts'
import { silent } from '../../src/observe.ts'
import { CommandError } from '../../src/runs/command.ts'
import { type Commands, createCommands, refused } from '../../src/runs/commands.ts'
import { createEngine, type Engine } from '../../src/runs/engine.ts'

const graphs = [{ graph_id: 'agent', description: null }]
const methods: [method: string, params: object][] = [
  ['input.respond', { interrupt_id: 'i', response: 1 }],
  ['input.inject', { message: { role: 'user', content: 'x' } }],
  ['state.get', {}],
  ['state.listCheckpoints', {}],
  ['state.fork', { checkpoint_id: v7() }],
  ['agent.getTree', {}],
  ['subscription.reconnect', { run_id: v7() }],
]

async function open(aesKeys?: AesKeys) {
  const db: Database = await openDatabase({ memory: true }, () => {}, aesKeys)
  await migrate(db)
  await ensureAssistants(db, graphs)
  const registry = createRegistry({ executor: { graphs: () => graphs } })
  const engine = createEngine({
    db,
    bus: createMemoryBus(),
    registry,
    observe: silent,
    durability: 'async',
    worker: () => undefined,
  })
  const executor = { call: () => Promise.reject(new ApiError('executor_unavailable')) }
  return { db, engine, commands: createCommands({ db, registry, engine, executor }) }
}

let db: Database
let engine: Engine
let commands: Commands
beforeAll(async () => {
  const made = await open()
  db = made.db
  engine = made.engine
  commands = made.commands
})
afterAll(async () => {
  engine.close()
  await db.close()
})

const send = async (threadId: string, method: string, params: object = {}, visible: Sql = all, to = commands) =>
  (await to.dispatch({ visible, configurable: {} }, threadId, { id: 1, method, params })).response
const start = async (metadata: object = {}) => {
  const threadId = v7()
  const response = await send(threadId, 'run.start', { assistant_id: 'agent', input: {} })
  expect(response.type).toBe('success')
  await db.rows(sql`update threads set metadata = metadata || ${json(metadata)}::jsonb where thread_id = ${threadId}`)
  return threadId
}

describe('a thread that the caller may not see', () => {
  const bob = sql`metadata @> ${json({ owner: 'bob' })}::jsonb`

  test('is not there, whatever is asked of it', async () => {
    const threadId = await start({ owner: 'ann' })
    for (const [method, params] of methods) {
      const [hidden, missing] = await Promise.all([
        send(threadId, method, params, bob),
        send(v7(), method, params, bob),
      ])
      expect(hidden, method).toMatchObject({ type: 'error', error: expect.stringMatching(/^no_such_/) })
      expect(JSON.stringify(missing).replaceAll(/[0-9a-f-]{36}/g, ''), method).toBe(
        JSON.stringify(hidden).replaceAll(/[0-9a-f-]{36}/g, ''),
      )
    }
    expect(await send(threadId, 'run.start', { assistant_id: 'agent', input: {} }, bob)).toMatchObject({
      type: 'error',
    })
    expect(await db.rows(sql`select 1 from runs where thread_id = ${threadId}`)).toHaveLength(1)
  })
})

describe('what the server itself fails at', () => {
  test('is thrown, for transports to say in their way, and tells nothing where it was not meant for clients', async () => {
    const threadId = await start()
    await expect(send(threadId, 'state.get')).rejects.toMatchObject({ code: 'executor_unavailable' })
    expect(refused(3, new ApiError('executor_unavailable'))).toEqual({
      type: 'error',
      id: 3,
      error: 'unknown_error',
      message: 'No executor can answer now. Try again later.',
    })
    expect(refused(null, new Error('select secret from x'))).toEqual({
      type: 'error',
      id: null,
      error: 'unknown_error',
      message: 'The server failed to answer. Its log says why, under the request id.',
    })
    expect(refused(4, new CommandError('no_such_interrupt', 'It is not open.'))).toMatchObject({
      error: 'no_such_interrupt',
    })
  })
})

test('on an encrypted database, answers are lined up and refused as on any other', async () => {
  const sealed = await open(parseAesKeys(`k:${Buffer.alloc(32, 7).toString('base64')}`))
  const ask = (method: string, params: object) => send(threadId, method, params, all, sealed.commands)
  const threadId = v7()
  const respond = (interrupt_id: string) => ask('input.respond', { interrupt_id, response: 'x' })
  await ask('run.start', { assistant_id: 'agent', input: {} })
  // As if that run had asked twice and ended.
  await sealed.db.rows(sql`update runs set status = 'success' where thread_id = ${threadId}`)
  const interrupts = { left: [{ id: 'one' }], right: [{ id: 'two' }] }
  await state.settle(sealed.db, threadId, { values: '{}', next: [], interrupts, checkpoint_id: null })
  const first = await respond('one')
  expect(first).toMatchObject({ type: 'success' })
  expect(await respond('one')).toMatchObject({
    error: 'no_such_interrupt',
    message: expect.stringMatching(/has the answer/),
  })
  expect(await respond('two')).toMatchObject({ type: 'success' })
  expect(await respond('three')).toMatchObject({ error: 'no_such_interrupt' })
  sealed.engine.close()
  await sealed.db.close()
})
