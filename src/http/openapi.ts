// The OpenAPI document, made from the endpoints. In charge of saying the contract in OpenAPI's words and of nothing that
// the contract does not say.

import { z } from 'zod'
import type { Endpoint, Reply } from '../contract/endpoint.ts'
import { type ErrorCode, errorCodes, statusOf } from '../errors.ts'

type Json = Record<string, unknown>

/** The document for these endpoints, as a value. */
export function openapiDocument(endpoints: readonly (readonly [string, Endpoint])[], version: string): Json {
  const components: Json = { Error: errorSchema() }
  const paths: Record<string, Json> = {}
  for (const [name, endpoint] of endpoints) {
    const method = { [endpoint.method.toLowerCase()]: operation(name, endpoint, components) }
    paths[endpoint.path] = { ...paths[endpoint.path], ...method }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Heddle',
      version,
      description: 'An open, self-hosted LangGraph Server. Every error has the body of the schema `Error`.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    tags: [...new Set(endpoints.map(([, { tag }]) => tag))].map((name) => ({ name })),
    paths,
    components: { schemas: components },
  }
}

function operation(name: string, endpoint: Endpoint, components: Json): Json {
  const parameters = [
    ...fields('path', endpoint.params, components),
    ...fields('query', endpoint.query, components),
    ...Object.entries(endpoint.headers ?? {}).map(([header, description]) => ({
      name: header,
      in: 'header',
      required: false,
      description,
      schema: { type: 'string' },
    })),
  ]
  return {
    operationId: name,
    tags: [endpoint.tag],
    summary: endpoint.summary,
    ...(endpoint.description !== undefined && { description: endpoint.description }),
    ...(parameters.length > 0 && { parameters }),
    ...(endpoint.body && {
      requestBody: {
        required: endpoint.bodyOptional !== true,
        content: { 'application/json': { schema: schemaOf(endpoint.body, 'input', components) } },
      },
    }),
    responses: responses(endpoint, components),
  }
}

function responses(endpoint: Endpoint, components: Json): Json {
  const status = endpoint.status ?? (endpoint.reply === 'none' ? 204 : 200)
  const headers = Object.entries(endpoint.replyHeaders ?? {}).map(([name, description]) => [
    name,
    { description, schema: { type: 'string' } },
  ])
  const success = {
    description: status === 204 ? 'Done.' : 'The answer.',
    ...(headers.length > 0 && { headers: Object.fromEntries(headers) }),
    ...content(endpoint.reply, components),
  }
  const checked = endpoint.body || endpoint.query || endpoint.params
  const codes: ErrorCode[] = [...(endpoint.errors ?? []), ...(checked ? (['validation_failed'] as const) : [])]
  if (endpoint.body) codes.push('invalid_json', 'body_too_large', 'unsupported_media_type')
  const errors = [...new Set(codes.map(statusOf))].map((failure) => [
    String(failure),
    {
      description: `One of: ${namesOf(codes.filter((code) => statusOf(code) === failure))}.`,
      content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
    },
  ])
  return { [status]: success, ...Object.fromEntries(errors) }
}

const namesOf = (codes: ErrorCode[]): string => [...new Set(codes)].map((code) => `\`${code}\``).join(', ')

function content(reply: Reply, components: Json): Json {
  if (reply === 'none' || reply === 'socket') return {}
  if (reply === 'sse') return { content: { 'text/event-stream': { schema: { type: 'string' } } } }
  if (reply === 'file') return { content: { 'text/html': { schema: { type: 'string' } } } }
  return { content: { 'application/json': { schema: schemaOf(reply, 'output', components) } } }
}

function fields(place: 'path' | 'query', schema: Endpoint['params'], components: Json): Json[] {
  if (!schema) return []
  const { properties = {}, required = [] } = schemaOf(schema, 'input', components) as {
    properties?: Record<string, Json>
    required?: string[]
  }
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: place,
    required: place === 'path' || required.includes(name),
    schema: property,
  }))
}

/** The JSON schema of a zod schema; named parts go to the components. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output', components: Json): Json {
  const made: Json = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    override: ({ zodSchema, jsonSchema }) => {
      const meta = z.globalRegistry.get(zodSchema)
      if (meta?.default !== undefined) jsonSchema.default = meta.default
      const list = meta?.listOf instanceof z.ZodType && {
        type: 'array',
        items: schemaOf(meta.listOf, io, components),
      }
      const shown = list || meta?.shown
      if (!shown) return
      for (const key of Object.keys(jsonSchema)) delete jsonSchema[key]
      Object.assign(jsonSchema, shown)
    },
  })
  const { $schema, $defs, ...rest } = JSON.parse(
    JSON.stringify(made).replaceAll('"#/$defs/', '"#/components/schemas/'),
  ) as Json
  Object.assign(components, $defs)
  const { id, ...inline } = rest
  if (typeof id !== 'string') return rest
  components[id] = inline
  return { $ref: `#/components/schemas/${id}` }
}

function errorSchema(): Json {
  const codes = errorCodes()
  return {
    type: 'object',
    required: ['detail', 'code'],
    properties: {
      detail: { type: 'string', description: 'One sentence saying what is wrong and what to do.' },
      code: { type: 'string', enum: codes.map(({ code }) => code) },
    },
  }
}
