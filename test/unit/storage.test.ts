// What executors read, while the database comes and goes.

import { expect, test } from 'vitest'
import type { Db } from '../../src/db/db.ts'
import { ApiError } from '../../src/errors.ts'
import { createStorage } from '../../src/graph/storage.ts'
import { createStore } from '../../src/graph/store.ts'

/** A database without rows that fails `times` times before. */
function failing(times: number, error: Error): Db & { asked(): number } {
  let asked = 0
  const rows = async () => (asked++ < times ? Promise.reject(error) : [])
  const db: Db & { asked(): number } = { rows, last: rows, tx: (work) => work(db), asked: () => asked }
  return db
}

const unused = { call: () => Promise.reject(new Error('not called')) }
const of = (db: Db) => createStorage({ db, store: createStore({ db, executor: unused }), flushed: async () => {} })
const which = { thread_id: '00000000-0000-4000-8000-000000000000', checkpoint_ns: '' }

test('a graph that reads during an outage gets its answer when that is over', async () => {
  const db = failing(2, new ApiError('database_unavailable'))
  const storage = of(db)
  expect(await storage['checkpoint.get'](which)).toBeNull()
  expect(db.asked()).toBe(3)
  const ops = [{ op: 'get', namespace: ['a'], key: 'b' }] as never
  await of(failing(1, new ApiError('overloaded')))['store.batch']({ ops })
})

test('what is wrong with a read itself is said at once', async () => {
  const db = failing(1, new ApiError('validation_failed'))
  await expect(of(db)['checkpoint.list'](which)).rejects.toMatchObject({ code: 'validation_failed' })
  expect(db.asked()).toBe(1)
})
