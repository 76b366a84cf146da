// The keeper of a lease over a database that stops answering: it knows by its own clock when others may have its runs.

import { expect, test } from 'vitest'
import type { Db } from '../../src/db/db.ts'
import type { Sql } from '../../src/db/sql.ts'
import { ApiError } from '../../src/errors.ts'
import { createKeeper } from '../../src/worker/keeper.ts'
import { until } from '../support/until.ts'

/** A database that notes who renews and who leaves, and can be away: silent, or failing. */
function fakeDatabase() {
  const renewed: string[] = []
  const left: string[] = []
  let away: 'silent' | 'failing' | undefined
  const waiting: (() => void)[] = []
  const db: Db = {
    rows: async <T>(query: Sql) => {
      if (away === 'failing') throw new ApiError('database_unavailable')
      if (away === 'silent') await new Promise<void>((resolve) => waiting.push(resolve))
      const name = String(query.values[0])
      if (query.text.startsWith('insert into workers')) renewed.push(name)
      if (query.text.startsWith('delete from workers')) left.push(name)
      return [{}] as T[]
    },
    tx: (work) => work(db),
    last: (query) => db.rows(query),
  }
  return {
    db,
    renewed,
    left,
    go: (how: 'silent' | 'failing' | undefined) => {
      away = how
      if (how === undefined) for (const answer of waiting.splice(0)) answer()
    },
  }
}

const keep = async (leaseSeconds = 0.4) => {
  const database = fakeDatabase()
  const seen: string[] = []
  const lost: number[] = []
  const keeper = createKeeper(
    { db: database.db, observe: ({ kind }) => seen.push(kind) },
    { leaseSeconds, graphIds: () => ['agent'], onLost: () => lost.push(performance.now()) },
  )
  await keeper.start()
  return { ...database, keeper, seen, lost, started: performance.now() }
}

test('a lease is renewed under one name, and given back', async () => {
  const { keeper, renewed, left, lost } = await keep()
  const name = keeper.workerId()
  await until('it is renewed', () => renewed.length >= 4)
  expect(new Set(renewed)).toEqual(new Set([name]))
  expect([keeper.trusted(), lost]).toEqual([true, []])
  await keeper.stop()
  expect(left).toEqual([name])
})

test.each(['silent', 'failing'] as const)(
  'when the database is %s, the lease is not trusted to its very end, and never renewed after',
  async (how) => {
    const { keeper, renewed, left, lost, started, go } = await keep()
    const name = keeper.workerId()
    go(how)
    await until('it is lost', () => lost.length > 0)
    expect((lost[0] as number) - started).toBeLessThan(400)
    expect(keeper.trusted()).toBe(false)
    expect(keeper.workerId()).not.toBe(name)
    const before = renewed.length
    go(undefined)
    await until('it is trusted again', () => keeper.trusted())
    expect(renewed.slice(before).at(-1)).toBe(keeper.workerId())
    expect(lost).toHaveLength(1)
    await keeper.stop()
    expect(left).toEqual([keeper.workerId()])
  },
)

test('a failure that passes within the lease costs nothing', async () => {
  const { keeper, renewed, lost, seen, go } = await keep(3)
  go('failing')
  await until('a renewal failed', () => seen.includes('database_failed'), 3_000)
  go(undefined)
  const before = renewed.length
  await until('it is renewed', () => renewed.length > before)
  expect([keeper.trusted(), lost]).toEqual([true, []])
  await keeper.stop()
})
