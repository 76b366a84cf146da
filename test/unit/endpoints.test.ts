import { Validator } from '@seriousme/openapi-schema-validator'
import { describe, expect, it } from 'vitest'
import { defaultServerConfig, type ServerConfig } from '../../src/config.ts'
import { allEndpoints } from '../../src/contract/all.ts'
import { errorCodes } from '../../src/errors.ts'
import { createHttp } from '../../src/http/app.ts'
import type { HttpDeps } from '../../src/http/deps.ts'
import { allRoutes } from '../../src/http/routes.ts'
import { silent } from '../../src/observe.ts'

// only what making the routes needs: none of them is asked for more here
const depsWith = (config: Partial<ServerConfig>) =>
  ({
    config: { ...defaultServerConfig, ...config },
    observe: silent,
    engine: { hangingUp: () => false },
  }) as unknown as HttpDeps

const httpWith = (config: Partial<ServerConfig> = {}) => {
  const deps = depsWith(config)
  return createHttp(deps, allRoutes(deps))
}
const get = (path: string, config: Partial<ServerConfig> = {}) =>
  httpWith(config).fetch(new Request(`http://heddle${path}`))

interface Operation {
  operationId: string
  parameters?: { name: string; in: string; schema: Record<string, unknown> }[]
  requestBody?: { content: Record<string, { schema: Record<string, unknown> }> }
  responses: Record<string, { content?: Record<string, { schema: Record<string, unknown> }> }>
}
interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, { properties?: Record<string, Record<string, unknown>>; required?: string[] }> }
}
const document = async (config: Partial<ServerConfig> = {}) =>
  (await (await get('/openapi.json', config)).json()) as Document

describe('endpoints and routes', () => {
  it('are the same set: nothing declared is unserved, nothing served is undeclared', () => {
    const place = ({ method, path }: { method: string; path: string }) => `${method} ${path}`
    const declared = allEndpoints.map(([, endpoint]) => place(endpoint))
    const served = allRoutes(depsWith({})).map(({ endpoint }) => place(endpoint))
    expect(served.toSorted()).toEqual(declared.toSorted())
  })

  it('serves /internal/truncate in development only', async () => {
    const ask = (config: Partial<ServerConfig>) =>
      httpWith(config).fetch(new Request('http://heddle/internal/truncate', { method: 'POST', body: '[]' }))
    expect((await ask({ dev: false })).status).toBe(404)
    expect((await ask({ dev: true })).status).toBe(422)
  })

  it('leaves out groups that are switched off, but never /ok', async () => {
    const config = { disabled: ['meta', 'store'] as const }
    expect((await get('/info', config)).status).toBe(404)
    expect((await get('/docs', config)).status).toBe(404)
    expect((await get('/store/items', config)).status).toBe(404)
    expect(await (await get('/ok', config)).json()).toEqual({ ok: true })
    expect((await get('/threads/x', config)).status).toBe(422)
    const withoutStore = await document({ disabled: ['store'] })
    expect(Object.keys(withoutStore.paths).filter((path) => path.startsWith('/store'))).toEqual([])
  })

  it('says what the server is', async () => {
    const info = await (await get('/info', { langsmith: true })).json()
    expect(info).toMatchObject({ version: defaultServerConfig.version, context: 'js' })
    expect(info.flags).toMatchObject({ assistants: true, crons: true, langsmith: true, stream_namespaces: true })
    expect(info.langgraph_js_version).toMatch(/^1\.\d+\.\d+$/)
  })
})

describe('the OpenAPI document', () => {
  it('is valid OpenAPI 3.1', async () => {
    const { valid, errors } = await new Validator().validate({ ...(await document({ dev: true })) })
    expect(errors).toBeUndefined()
    expect(valid).toBe(true)
  })

  it('has every endpoint under its own name', async () => {
    const { paths } = await document({ dev: true })
    const operations = Object.values(paths).flatMap((methods) => Object.values(methods))
    expect(operations.map(({ operationId }) => operationId).toSorted()).toEqual(
      allEndpoints.map(([name]) => name).toSorted(),
    )
  })

  it('has every reference it points to', async () => {
    const { components, ...rest } = await document({ dev: true })
    const text = JSON.stringify({ components, ...rest })
    const references = new Set([...text.matchAll(/"\$ref":"([^"]+)"/g)].map((match) => match[1]))
    const known = Object.keys(components.schemas).map((name) => `#/components/schemas/${name}`)
    expect([...references].filter((reference) => !known.includes(reference as string))).toEqual([])
    expect(known).toContain('#/components/schemas/RunCreateStateful')
  })

  it('shows bodies as they are sent, with their defaults', async () => {
    const { components, paths } = await document()
    const run = components.schemas.RunCreateStateful
    expect(run?.required).toEqual(['assistant_id'])
    expect(run?.properties?.multitask_strategy?.default).toBe('enqueue')
    expect(run?.properties?.stream_mode?.default).toEqual(['values'])
    expect(components.schemas.RunCreateStateless?.properties?.on_completion?.default).toBe('delete')
    const body = paths['/threads/{thread_id}/runs/wait']?.post?.requestBody?.content['application/json']
    expect(body?.schema).toEqual({ $ref: '#/components/schemas/RunCreateStateful' })
  })

  it('shows queries as what they mean, not as the text they travel in', async () => {
    const { paths } = await document()
    const parameters = paths['/threads/{thread_id}/runs']?.get?.parameters ?? []
    const schemaOf = (name: string) => parameters.find((parameter) => parameter.name === name)?.schema
    expect(schemaOf('limit')).toEqual({ type: 'integer', minimum: 1, maximum: 1000, default: 10 })
    expect(schemaOf('select')).toMatchObject({ type: 'array', items: { enum: expect.arrayContaining(['run_id']) } })
  })

  it('shows streams, errors and their codes', async () => {
    const { components, paths } = await document()
    const stream = paths['/threads/{thread_id}/runs/stream']?.post
    expect(Object.keys(stream?.responses['200']?.content ?? {})).toEqual(['text/event-stream'])
    for (const status of ['404', '409', '413', '422']) {
      expect(stream?.responses[status]?.content?.['application/json']?.schema.$ref).toBe('#/components/schemas/Error')
    }
    const { code } = components.schemas.Error?.properties ?? {}
    expect(code?.enum).toEqual(errorCodes().map((each) => each.code))
  })

  it('is shown as a page that fetches nothing', async () => {
    const response = await get('/docs')
    const page = await response.text()
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(response.headers.get('content-security-policy')).toMatch(/^default-src 'none'/)
    expect(page).not.toMatch(/<script|<link|<img|\ssrc=|https?:\/\//)
    for (const [name, endpoint] of allEndpoints) {
      if (endpoint.path.startsWith('/internal/')) continue
      expect(page).toContain(`<details id="${name}">`)
    }
    expect(page).toContain('<code>/threads/{thread_id}/runs/wait</code>')
  })
})
