// Breadth-first over everything that may happen. In charge of visiting each state once (workers' names and numbers that only
// matter in comparison are made alike), of the shortest way to a broken law, and of states from which no run can end.

import { steps, type World } from './actions.ts'
import { keyOf } from './key.ts'
import { isOver, lawBroken } from './laws.ts'
import { type Bounds, initial, type State } from './state.ts'

export interface Explored {
  states: number
  moves: number
  /** The longest of the shortest ways to a state. */
  depth: number
  /** The law that was broken first, with the shortest way there; exploring stops at it. */
  broken: { law: string; trace: string[] } | undefined
  /** The nearest state from which the runs cannot come to their ends by themselves. */
  stuck: { trace: string[] } | undefined
}

/** Visits everything within the bounds; throws beyond `maxStates`. */
export function explore(bounds: Bounds, world: World, maxStates = 2_000_000): Explored {
  const seen = new Map<string, number>()
  const parents: number[] = []
  const ordinals: number[] = []
  const over: number[] = []
  // Fair moves, as pairs of numbers, for the way back from the ends.
  const from: number[] = []
  const to: number[] = []
  const add = (s: State, parent: number, ordinal: number): number | undefined => {
    const key = keyOf(s)
    const known = seen.get(key)
    if (known !== undefined) return known
    const id = parents.length
    seen.set(key, id)
    parents.push(parent)
    ordinals.push(ordinal)
    if (isOver(s)) over.push(id)
    fresh.push(s)
    return id
  }
  const result = { states: 0, moves: 0, depth: 0, broken: undefined as Explored['broken'] }
  let fresh: State[] = []
  add(initial(bounds), -1, -1)
  for (let id = 0; fresh.length > 0; result.depth++) {
    const layer = fresh
    fresh = []
    for (const s of layer) {
      let ordinal = 0
      for (const { next, fair } of steps(s, world)) {
        const law = lawBroken(next)
        result.moves++
        if (law !== undefined) {
          result.states = parents.length
          result.broken = { law, trace: [...traceTo(id), labelOf(s, ordinal)] }
          return { ...result, stuck: undefined }
        }
        const there = add(next, id, ordinal++) as number
        if (fair) {
          from.push(id)
          to.push(there)
        }
        if (parents.length > maxStates) throw new Error(`more than ${maxStates} states`)
      }
      id++
    }
  }
  result.states = parents.length
  const hopeless = unreached(parents.length, over, from, to)
  return { ...result, stuck: hopeless === undefined ? undefined : { trace: traceTo(hopeless) } }

  function traceTo(id: number): string[] {
    const way: number[] = []
    for (let at = id; parents[at] !== -1; at = parents[at] as number) way.unshift(ordinals[at] as number)
    let s = initial(bounds)
    return way.map((ordinal) => {
      const step = [...steps(s, world)][ordinal]
      if (step === undefined) throw new Error('the way back is lost')
      s = step.next
      return step.label()
    })
  }
  function labelOf(s: State, ordinal: number): string {
    return [...steps(s, world)][ordinal]?.label() ?? ''
  }
}

/** The first state from which none of `goals` can be reached over the moves. */
function unreached(
  count: number,
  goals: readonly number[],
  from: readonly number[],
  to: readonly number[],
): number | undefined {
  const starts = new Int32Array(count + 1)
  for (const id of to) starts[id + 1] = (starts[id + 1] as number) + 1
  for (let i = 0; i < count; i++) starts[i + 1] = (starts[i + 1] as number) + (starts[i] as number)
  const sources = new Int32Array(from.length)
  const filled = starts.slice()
  to.forEach((id, move) => {
    const place = filled[id] as number
    sources[place] = from[move] as number
    filled[id] = place + 1
  })
  const reached = new Uint8Array(count)
  const open = [...goals]
  for (const id of open) reached[id] = 1
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    for (let at = starts[id] as number; at < (starts[id + 1] as number); at++) {
      const source = sources[at] as number
      if (reached[source] === 0) {
        reached[source] = 1
        open.push(source)
      }
    }
  }
  const first = reached.indexOf(0)
  return first === -1 ? undefined : first
}
