// JSON schemas that a graph can tell by itself: from the zod, Standard or StateSchema definitions it was built with, or else
// from the names and defaults of its channels. In charge of reading the builder's own fields; must never throw, whatever
// version of LangGraph or zod made the graph.

import { toJsonSchema } from '@langchain/core/utils/json_schema'
import { MESSAGES_SCHEMA } from './schemas-messages.ts'

export type JsonSchema = Record<string, unknown>

/** The schemas of a graph that are known; what is absent is not known. */
export interface KnownSchemas {
  State?: JsonSchema
  Input?: JsonSchema
  Output?: JsonSchema
  Context?: JsonSchema
}

type Fields = Record<string, unknown>
type Direction = 'input' | 'output'

/** Schemas from the runtime definitions of the graph. */
export function runtimeSchemas(graph: unknown): KnownSchemas {
  const builder = builderOf(graph)
  if (builder === undefined) return {}
  const state = builder._schemaRuntimeDefinition
  const input = builder._inputRuntimeDefinition
  return known({
    State: schemaOf(builder, state, 'output'),
    // A symbol stands for "the state, every field optional".
    Input: schemaOf(builder, typeof input === 'symbol' ? state : input, 'input'),
    Output: schemaOf(builder, builder._outputRuntimeDefinition, 'output'),
    Context: contextOf(builder),
  })
}

/** Schemas from the channels: their names, which of them hold messages, and the type of their defaults. */
export function channelSchemas(graph: unknown): KnownSchemas {
  const builder = builderOf(graph)
  const channels = fieldsOf(fieldsOf(graph)?.channels)
  if (builder === undefined || channels === undefined) return {}
  const object = (definition: unknown): JsonSchema | undefined => {
    const names = Object.keys(fieldsOf(definition) ?? {}).filter((name) => Object.hasOwn(channels, name))
    if (names.length === 0) return undefined
    return {
      type: 'object',
      properties: Object.fromEntries(names.map((name) => [name, channelSchema(channels[name])])),
    }
  }
  return known({
    State: object(builder._schemaDefinition),
    Input: object(builder._inputDefinition),
    Output: object(builder._outputDefinition),
  })
}

const known = (schemas: { [K in keyof KnownSchemas]: JsonSchema | undefined }): KnownSchemas =>
  Object.fromEntries(Object.entries(schemas).filter(([, schema]) => schema !== undefined))

const fieldsOf = (value: unknown): Fields | undefined =>
  (typeof value === 'object' && value !== null) || typeof value === 'function' ? (value as Fields) : undefined

function builderOf(graph: unknown): Fields | undefined {
  const fields = fieldsOf(graph)
  if (fields && '_schemaDefinition' in fields) return fields
  const own = fieldsOf(fields?.builder)
  // An agent holds its graph.
  return own && '_schemaDefinition' in own ? own : fieldsOf(fieldsOf(fields?.graph)?.builder)
}

function schemaOf(builder: Fields, definition: unknown, direction: Direction): JsonSchema | undefined {
  if (fieldsOf(definition) === undefined) return undefined
  const fields = fieldsOf((definition as Fields).fields)
  const schema =
    isStateSchema(definition) && fields ? ofFields(fields, direction) : ofZod(builder, definition, direction)
  return schema && withMessages(schema)
}

const isStateSchema = (definition: unknown): boolean =>
  (definition as Record<symbol, unknown>)[Symbol.for('langgraph.state.state_schema')] === true

function contextOf(builder: Fields): JsonSchema | undefined {
  const schema = builder._configRuntimeSchema
  return fieldsOf(schema) && jsonOf(schema, 'input')
}

interface Registry {
  getExtendedChannelSchemas(schema: unknown, effects: Record<string, boolean>): unknown
}

// The graph's own registry knows which fields have a reducer or extras; it is that of the graph's copy of LangGraph.
function ofZod(builder: Fields, definition: unknown, direction: Direction): JsonSchema | undefined {
  const registry = builder._metaRegistry as Registry | undefined
  const effects = {
    withJsonSchemaExtrasAsDescription: true,
    ...(direction === 'input' ? { withReducerSchema: true, asPartial: true } : {}),
  }
  try {
    return extras(jsonOf(registry?.getExtendedChannelSchemas(definition, effects) ?? definition, direction)) as
      | JsonSchema
      | undefined
  } catch {
    return jsonOf(definition, direction)
  }
}

// LangGraph hides a field's extras in its description, after "lg:".
function extras(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(extras)
  if (typeof schema !== 'object' || schema === null) return schema
  const { description, ...rest } = Object.fromEntries(Object.entries(schema).map(([key, item]) => [key, extras(item)]))
  if (typeof description !== 'string') return description === undefined ? rest : { description, ...rest }
  return description.startsWith('lg:') ? { ...rest, ...parsed(description.slice(3)) } : { description, ...rest }
}

function parsed(text: string): object {
  try {
    return JSON.parse(text) as object
  } catch {
    return { description: text }
  }
}

/** A StateSchema: each field is a schema, or holds one for its value and perhaps another for its updates. */
function ofFields(fields: Fields, direction: Direction): JsonSchema {
  const properties: Record<string, JsonSchema> = {}
  const required: string[] = []
  for (const [name, value] of Object.entries(fields)) {
    const field = fieldsOf(value) ?? {}
    const schema =
      '~standard' in field ? field : (direction === 'input' && field.inputSchema) || field.valueSchema || field.schema
    const { $schema: _, ...json } = jsonOf(schema, direction) ?? {}
    properties[name] = { ...json, ...fieldsOf(field.jsonSchemaExtra) }
    if (direction === 'output' && !acceptsNothing(schema)) required.push(name)
  }
  return { type: 'object', properties, ...(required.length > 0 ? { required } : {}) }
}

interface Standard {
  validate?(value: unknown): { issues?: unknown } | Promise<unknown>
  jsonSchema?: Record<Direction, (options: object) => JsonSchema>
}
const standardOf = (schema: unknown): Standard | undefined => fieldsOf(schema)?.['~standard'] as Standard | undefined

function acceptsNothing(schema: unknown): boolean {
  try {
    const result = standardOf(schema)?.validate?.(undefined)
    return result === undefined || result instanceof Promise || (result as { issues?: unknown }).issues === undefined
  } catch {
    return true
  }
}

// What JSON cannot describe (custom checks, dates) becomes "anything" instead of an error.
function jsonOf(schema: unknown, direction: Direction): JsonSchema | undefined {
  const own = standardOf(schema)?.jsonSchema
  const ways = [
    () => own?.[direction]({ target: 'draft-07', libraryOptions: { unrepresentable: 'any' } }),
    () => toJsonSchema(schema as never, { unrepresentable: 'any', io: direction }) as JsonSchema,
  ]
  for (const way of ways) {
    try {
      const json = way()
      if (typeof json === 'object' && json !== null && json !== schema) return { ...json }
    } catch {
      // The next way, or none: the field is then described by its name alone.
    }
  }
  return undefined
}

/** Says of a channel marked as messages what messages are. */
function withMessages(schema: JsonSchema): JsonSchema {
  const properties = fieldsOf(schema.properties)
  if (properties === undefined) return schema
  const complete = Object.entries(properties).map(([name, field]) => {
    const given = fieldsOf(field)
    return [name, given?.langgraph_type === 'messages' ? { ...MESSAGES_SCHEMA, ...given } : field]
  })
  return { ...schema, properties: Object.fromEntries(complete) }
}

function channelSchema(channel: unknown): JsonSchema {
  const fields = fieldsOf(channel) ?? {}
  const reducer = fieldsOf(fields.operator ?? fields.reducer)
  if (typeof reducer?.name === 'string' && /^(messages\w*Reducer|addMessages)$/.test(reducer.name))
    return MESSAGES_SCHEMA
  try {
    const initial =
      typeof fields.initialValueFactory === 'function' ? (fields.initialValueFactory as () => unknown)() : undefined
    if (Array.isArray(initial)) return { type: 'array' }
    return ['string', 'number', 'boolean'].includes(typeof initial) ? { type: typeof initial } : {}
  } catch {
    return {}
  }
}
