// Numbers that look random and come again with the same seed. In charge of nothing else.

export interface Random {
  /** From 0 up to and without 1. */
  next(): number
  /** A whole number from `least` to `most`. */
  whole(least: number, most: number): number
  chance(probability: number): boolean
  pick<T>(from: readonly T[]): T
  shuffled<T>(all: readonly T[]): T[]
  /** Another source, that does not depend on how often this one is asked. */
  fork(name: string): Random
}

export function createRandom(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const whole = (least: number, most: number) => least + Math.floor(next() * (most - least + 1))
  return {
    next,
    whole,
    chance: (probability) => next() < probability,
    pick: (from) => {
      if (from.length === 0) throw new Error('nothing to pick from')
      return from[whole(0, from.length - 1)] as (typeof from)[number]
    },
    shuffled: (all) => {
      const left = [...all]
      return all.map(() => left.splice(whole(0, left.length - 1), 1)[0] as (typeof all)[number])
    },
    fork: (name) => createRandom([...name].reduce((sum, char) => Math.imul(sum, 31) + char.charCodeAt(0), seed + 1)),
  }
}
