// Which V8 is told to wait.

import { expect, test } from 'vitest'
import { optimiseLater } from '../../src/tiering.ts'

test('the V8 of Node 20 is told to optimise later, later ones are left alone', () => {
  const told = (version: string) => {
    const flags: string[] = []
    optimiseLater(version, (flag) => flags.push(flag))
    return flags
  }
  expect(told('11.3.244.8-node.33')).toEqual(['--interrupt-budget=300000'])
  expect(told('12.4.254.21-node.57')).toEqual([])
  expect(told('13.6.233.17-node.53')).toEqual([])
})
