// A burst of creations, and for how long beginning runs yields to it.

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createPressure } from '../../src/runs/pressure.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

async function isOver(relief: Promise<void>): Promise<boolean> {
  const waiting = Symbol('waiting')
  return (await Promise.race([relief, Promise.resolve().then(() => waiting)])) !== waiting
}

test('a few creations at once are no burst', async () => {
  const pressure = createPressure()
  for (let i = 0; i < 8; i++) pressure.enter()
  expect(pressure.high()).toBe(false)
  await pressure.relief()
})

test('a burst holds runs back until few enough are being created', async () => {
  const pressure = createPressure()
  const leave = Array.from({ length: 10 }, () => pressure.enter())
  expect(pressure.high()).toBe(true)
  const relief = pressure.relief()
  leave[0]?.()
  expect(await isOver(relief)).toBe(false)
  leave[1]?.()
  await relief
  expect(pressure.high()).toBe(false)
})

test('a burst that does not end holds runs back for a quarter of a second', async () => {
  const pressure = createPressure()
  for (let i = 0; i < 20; i++) pressure.enter()
  const relief = pressure.relief()
  await vi.advanceTimersByTimeAsync(249)
  expect(await isOver(relief)).toBe(false)
  await vi.advanceTimersByTimeAsync(1)
  await relief
  expect(pressure.high()).toBe(true)
})
