// Filters of store items in SQL: equality and comparison of fields. In charge of saying as much as possible as containment,
// which the index on values answers; keys and values are always bound.

import { ApiError } from '../errors.ts'
import { json } from './json.ts'
import { and, type Sql, sql } from './sql.ts'

const operators: Readonly<Record<string, (found: Sql, wanted: Sql) => Sql>> = {
  $eq: (found, wanted) => sql`coalesce(${found}, 'null') = ${wanted}`,
  $ne: (found, wanted) => sql`coalesce(${found}, 'null') <> ${wanted}`,
  $gt: (found, wanted) => sql`${found} > ${wanted}`,
  $gte: (found, wanted) => sql`${found} >= ${wanted}`,
  $lt: (found, wanted) => sql`${found} < ${wanted}`,
  $lte: (found, wanted) => sql`${found} <= ${wanted}`,
}

/** The conditions that a filter means, on the column `value`. An object of operators compares; any other object is matched
 *  key by key; the rest must be equal. Throws `validation_failed` for what is no operator. */
export function conditions(filter: Record<string, unknown> = {}): Sql[] {
  const { contained, rest } = split(sql`value`, filter, '')
  const held = Object.keys(contained).length > 0 ? [sql`value @> ${json(contained)}::jsonb`] : []
  return [...held, ...rest]
}

interface Split {
  /** What must be contained; nothing with a null in it, since a missing field counts as null. */
  contained: Record<string, unknown>
  rest: Sql[]
}

function split(found: Sql, fields: Record<string, unknown>, path: string): Split {
  const contained: [string, unknown][] = []
  const rest: Sql[] = []
  for (const [key, wanted] of Object.entries(fields)) {
    const at = path === '' ? key : `${path}.${key}`
    const field = sql`(${found} -> ${stored(key)}::text)`
    if (wanted === undefined) continue
    if (isScalar(wanted)) contained.push([key, wanted])
    else if (wanted === null || Array.isArray(wanted)) rest.push(compare(field, '$eq', wanted, at))
    else if (typeof wanted === 'object') {
      const entries = Object.entries(wanted)
      if (entries.some(([name]) => name.startsWith('$'))) {
        for (const [operator, value] of entries) {
          if (operator === '$eq' && isScalar(value) && entries.length === 1) contained.push([key, value])
          else rest.push(compare(field, operator, value, at))
        }
      } else {
        const inner = split(field, wanted as Record<string, unknown>, at)
        contained.push([key, inner.contained])
        rest.push(...inner.rest)
      }
    } else throw new ApiError('validation_failed', `filter.${at}: must be a JSON value.`)
  }
  // defined rather than assigned, or "__proto__" would be lost
  return { contained: Object.fromEntries(contained), rest }
}

const isScalar = (value: unknown): boolean =>
  typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))

/** A key as it stands in a stored value. */
const stored = (key: string): string => JSON.parse(json(key) as string) as string

function compare(found: Sql, operator: string, wanted: unknown, path: string): Sql {
  const make = Object.hasOwn(operators, operator) ? operators[operator] : undefined
  if (!make) {
    const known = Object.keys(operators).join(', ')
    throw new ApiError('validation_failed', `filter.${path}: "${operator}" is no operator: use one of ${known}.`)
  }
  const bound = sql`${json(wanted)}::jsonb`
  if (operator === '$eq' || operator === '$ne') return make(found, bound)
  if (typeof wanted !== 'number' && typeof wanted !== 'string') {
    throw new ApiError('validation_failed', `filter.${path}: ${operator} compares with a number or a string.`)
  }
  // Values of another kind are neither more nor less.
  return and([sql`jsonb_typeof(${found}) = ${typeof wanted}::text`, make(found, bound)])
}
