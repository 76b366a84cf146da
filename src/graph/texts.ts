// Which texts of a store item are embedded: paths like `title`, `chapters[*].text`, `tags[-1]`, or `$` for the whole item. Pure.

import { createHash } from 'node:crypto'

type Step = { name: string } | { at: number } | 'each'
/** A path, read. Empty for the whole value. */
export type Path = readonly Step[]

const NAME = /^[^.[\]]+/
const BRACKET = /^\[(\*|-?\d{1,9})\]/

/** Reads a path; undefined where it is none. A leading `$` or `$.` may stand before it. */
export function readPath(text: string): Path | undefined {
  let rest = text === '$' ? '' : text.replace(/^\$(?=[.[])\.?/, '')
  if (text === '' || text === '$.') return undefined
  const steps: Step[] = []
  let expectsName = true
  while (rest !== '') {
    const bracket = BRACKET.exec(rest)
    if (bracket) {
      steps.push(bracket[1] === '*' ? 'each' : { at: Number(bracket[1]) })
      rest = rest.slice(bracket[0].length)
    } else if (expectsName) {
      const name = NAME.exec(rest)?.[0]
      if (name === undefined) return undefined
      steps.push(name === '*' ? 'each' : { name })
      rest = rest.slice(name.length)
    } else return undefined
    expectsName = rest.startsWith('.')
    if (expectsName) {
      rest = rest.slice(1)
      if (rest === '') return undefined
    }
  }
  return steps
}

/** The texts at these paths, each once. Texts are taken as they are, other values as JSON; nothing, null and blanks give none. */
export function textsAt(value: unknown, paths: readonly Path[]): string[] {
  const texts = paths.flatMap((path) => follow(value, path, 0)).map(textOf)
  return [...new Set(texts.filter((text) => text.trim() !== ''))]
}

function follow(value: unknown, path: Path, from: number): unknown[] {
  const step = path[from]
  if (step === undefined) return [value]
  if (typeof value !== 'object' || value === null) return []
  if (step === 'each') return Object.values(value).flatMap((inner) => follow(inner, path, from + 1))
  if ('at' in step) return Array.isArray(value) ? follow(value.at(step.at), path, from + 1) : []
  return Object.hasOwn(value, step.name) ? follow((value as Record<string, unknown>)[step.name], path, from + 1) : []
}

const textOf = (value: unknown): string =>
  typeof value === 'string' ? value : value === undefined || value === null ? '' : JSON.stringify(value, sorted)

// The same content is the same text, in whatever order its keys came.
const sorted = (_: string, value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value

/** What a text is known by. */
export const hashOf = (text: string): string => createHash('sha256').update(text).digest('base64url').slice(0, 22)
