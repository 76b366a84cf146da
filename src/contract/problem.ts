// Turns a failed validation into one sentence for people: where in the request, and why. Must never repeat a value
// that was sent (it may be a secret, or megabytes).

import type { z } from 'zod'

/** `detail` is one sentence like "body.limit: must be at most 1000". */
export interface Problem {
  code: 'validation_failed' | 'not_supported'
  detail: string
}

const kinds: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'a string',
  boolean: 'true or false',
  array: 'an array',
  object: 'an object',
  record: 'an object',
  tuple: 'an array',
}

const formats: Readonly<Record<string, string>> = { guid: 'must be a UUID', uuid: 'must be a UUID' }

type RawIssue = z.core.$ZodRawIssue
type Bound = { origin: string; inclusive?: boolean }

const units = (origin: string, count: unknown): string =>
  origin === 'string' ? ` character${count === 1 ? '' : 's'} long` : ''

const bounded = (issue: Bound, word: 'least' | 'most', count: unknown): string => {
  if (issue.origin === 'array' || issue.origin === 'set')
    return `must have at ${word} ${count} item${count === 1 ? '' : 's'}`
  if (word === 'least' && issue.origin === 'string' && count === 1) return 'must not be empty'
  if (issue.inclusive === false) return `must be ${word === 'least' ? 'more' : 'less'} than ${count}`
  return `must be at ${word} ${count}${units(issue.origin, count)}`
}

/** The reason of one issue, for zod's `error` option; schemas that bring their own sentence keep it. */
export function explain(issue: RawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      if (issue.input === undefined) return 'is required'
      return `must be ${kinds[issue.expected] ?? issue.expected}`
    case 'too_big':
      return bounded(issue, 'most', issue.maximum)
    case 'too_small':
      return bounded(issue, 'least', issue.minimum)
    case 'invalid_value':
      return issue.input === undefined ? 'is required' : `must be one of: ${issue.values.map(String).join(', ')}`
    case 'invalid_format':
      return formats[issue.format] ?? 'has the wrong format'
    case 'unrecognized_keys':
      return `has unknown keys: ${issue.keys.join(', ')}`
    case 'invalid_union':
      return issue.input === undefined ? 'is required' : `must be ${alternatives(issue)}`
    default:
      return 'is not valid'
  }
}

function alternatives(issue: Extract<RawIssue, { code?: 'invalid_union' }>): string {
  const each = issue.errors.map((option) => option[0]?.message.replace(/^must be /, '') ?? 'something else')
  return [...new Set(each)].join(', or ')
}

type Issue = z.core.$ZodIssue

/** Of a union's failures, the one that came further than every other, since that is the alternative that was meant. */
function meant(issue: Issue): Issue {
  if (issue.code !== 'invalid_union') return issue
  const firsts = issue.errors.flatMap((option) => (option[0] ? [meant(option[0])] : []))
  const depth = Math.max(0, ...firsts.map((first) => first.path.length))
  const deepest = firsts.filter((first) => first.path.length === depth)
  const only = deepest[0]
  if (depth === 0 || !only || deepest.length > 1) return issue
  return { ...only, path: [...issue.path, ...only.path] }
}

const pathOf = (path: readonly PropertyKey[]): string =>
  path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`
    const name = String(step)
    const shown = name.length > 64 ? `${name.slice(0, 61)}...` : name
    return /^[\w$-]+$/.test(shown) ? `${text}${text ? '.' : ''}${shown}` : `${text}[${JSON.stringify(shown)}]`
  }, '')

/** The path of a place in a request, like `body.config.tags[0]`. */
export const placeOf = (part: string, path: readonly PropertyKey[]): string => {
  const inner = pathOf(path)
  return inner === '' ? part : inner.startsWith('[') ? `${part}${inner}` : `${part}.${inner}`
}

/** The first issue of a failed validation (parsed with `{ error: explain }`) as a sentence. */
export function problemOf(part: 'body' | 'query' | 'path' | 'command' | 'params', error: z.core.$ZodError): Problem {
  const first = error.issues[0]
  const issue = first && meant(first)
  if (!issue) return { code: 'validation_failed', detail: `${part}: is not valid` }
  const code = issue.code === 'custom' && issue.params?.code === 'not_supported' ? 'not_supported' : 'validation_failed'
  return { code, detail: `${placeOf(part, issue.path)}: ${issue.message}` }
}
