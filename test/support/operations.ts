// The API's operations as its own OpenAPI document gives them, with a good request for each: what hostile tests start from, so
// that a new endpoint is in their tables by itself.

import { allEndpoints } from '../../src/contract/all.ts'
import { openapiDocument } from '../../src/http/openapi.ts'

/** A JSON schema, as far as it is read here. */
export interface Schema {
  $ref?: string
  type?: string | string[]
  anyOf?: Schema[]
  const?: unknown
  enum?: unknown[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema | false
  prefixItems?: Schema[]
  minItems?: number
  minimum?: number
  format?: string
}

export interface Operation {
  /** `METHOD /path`, for names of tests. */
  title: string
  name: string
  method: string
  path: string
  params: { name: string; schema: Schema }[]
  query: { name: string; schema: Schema }[]
  body?: Schema
  /** Answers with events. */
  streams: boolean
}

interface Documented {
  operationId: string
  responses: Record<string, { content?: object }>
  parameters?: { name: string; in: string; schema: Schema }[]
  requestBody?: { content: { 'application/json': { schema: Schema } } }
}
interface Document {
  paths: Record<string, Record<string, Documented>>
  components: { schemas: Record<string, Schema> }
}

const document = openapiDocument(allEndpoints, '0') as unknown as Document

/** Every operation; one whose body has alternatives is there once for each. */
export const operations: readonly Operation[] = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).flatMap(([method, { operationId, parameters = [], requestBody, responses }]) => {
    const given = requestBody?.content['application/json'].schema
    const body = given && resolve(given)
    const bodies = body?.anyOf?.map(resolve) ?? [body]
    return bodies.map((one, i) => ({
      title: `${method.toUpperCase()} ${path}${i > 0 ? ` (alternative ${i + 1})` : ''}`,
      name: operationId,
      method: method.toUpperCase(),
      path,
      params: parameters.filter((parameter) => parameter.in === 'path'),
      query: parameters.filter((parameter) => parameter.in === 'query'),
      ...(one && { body: one }),
      streams: 'text/event-stream' in (responses['200']?.content ?? {}) || '101' in responses,
    }))
  }),
)

/** A schema without references at its top. */
export function resolve(schema: Schema): Schema {
  const name = schema.$ref?.split('/').at(-1)
  return name === undefined ? schema : resolve(document.components.schemas[name] ?? {})
}

/** Good values by the name of a field or parameter. */
export type Known = Readonly<Record<string, unknown>>

/** The smallest good value of a schema. */
export function sampleOf(given: Schema, known: Known, name = ''): unknown {
  if (Object.hasOwn(known, name)) return known[name]
  const schema = resolve(given)
  if (schema.const !== undefined) return schema.const
  if (schema.enum) return schema.enum[0]
  if (schema.anyOf) return sampleOf(schema.anyOf[0] ?? {}, known, name)
  switch (Array.isArray(schema.type) ? schema.type[0] : schema.type) {
    case 'object':
      return Object.fromEntries(
        (schema.required ?? []).map((field) => [field, sampleOf(schema.properties?.[field] ?? {}, known, field)]),
      )
    case 'array':
      return Array.from({ length: schema.minItems ?? 0 }, () => sampleOf(schema.items || {}, known))
    case 'integer':
    case 'number':
      return schema.minimum ?? 1
    case 'boolean':
      return false
    case 'string':
      return schema.format === 'uuid' ? known.uuid : 'x'
    default:
      return {}
  }
}

type Kind = 'null' | 'boolean' | 'number' | 'string' | 'array' | 'object'

/** The kinds of JSON value that a schema may take; undefined for any. */
export function kindsOf(given: Schema): ReadonlySet<Kind> | undefined {
  const schema = resolve(given)
  if (schema.anyOf) {
    const each = schema.anyOf.map(kindsOf)
    return each.includes(undefined) ? undefined : new Set(each.flatMap((kinds) => [...(kinds ?? [])]))
  }
  const values = schema.const !== undefined ? [schema.const] : schema.enum
  if (values) return new Set(values.map(kindOf))
  if (schema.type === undefined) return undefined
  return new Set([schema.type].flat().map((type) => (type === 'integer' ? 'number' : type) as Kind))
}

export const kindOf = (value: unknown): Kind =>
  value === null ? 'null' : Array.isArray(value) ? 'array' : (typeof value as Kind)

/** Every field of a body to some depth, as a path into the sample; `[0]` stands for the items of an array. */
export function fieldsOf(given: Schema, depth = 3, path: (string | number)[] = []): Field[] {
  const schema = resolve(given)
  const own = path.length > 0 ? [{ path, schema }] : []
  if (depth === 0) return own
  const alternatives = schema.anyOf?.filter((one) => one.type !== 'null') ?? []
  if (alternatives.length > 0)
    return [...own, ...alternatives.flatMap((one) => fieldsOf(one, depth, path).slice(own.length))]
  const inside = Object.entries(schema.properties ?? {}).flatMap(([name, one]) =>
    fieldsOf(one, depth - 1, [...path, name]),
  )
  const items = schema.items ? fieldsOf(schema.items, depth - 1, [...path, 0]) : []
  return [...own, ...inside, ...items]
}

export interface Field {
  path: (string | number)[]
  schema: Schema
}

/** A path as the server's sentences name it. */
export const placeOf = (path: readonly (string | number)[]): string =>
  path.reduce<string>((text, step) => (typeof step === 'number' ? `${text}[${step}]` : `${text}.${step}`), 'body')

/** A copy of a value with something else at a path; what is missing on the way is made. */
export function withAt(value: unknown, path: readonly (string | number)[], put: unknown): unknown {
  const [step, ...rest] = path
  if (step === undefined) return put
  if (typeof step === 'number') {
    const list = Array.isArray(value) ? [...value] : []
    list[step] = withAt(list[step], rest, put)
    return list
  }
  const object = typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {}
  return { ...object, [step]: withAt((object as Record<string, unknown>)[step], rest, put) }
}
