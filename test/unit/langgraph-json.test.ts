import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { ConfigError } from '../../src/errors.ts'
import { readProject } from '../../src/langgraph-json.ts'
import { ignoredKeys, nearest, refusedCheckpointer, refusedHttp, refusedKeys } from '../../src/langgraph-keys.ts'

const refusedPaths = [
  ...Object.keys(refusedKeys),
  ...Object.keys(refusedHttp).map((key) => `http.${key}`),
  'http.cors.allow_origin_regex',
  ...Object.keys(refusedCheckpointer).map((key) => `checkpointer.${key}`),
]

const dir = mkdtempSync(join(tmpdir(), 'heddle-project-'))
const file = join(dir, 'langgraph.json')
afterAll(() => rmSync(dir, { recursive: true }))

const graphs = { agent: './agent.ts:graph' }
const inserted = (text: string) => `\${{ ${text} }}`
const read = (content: unknown, variables = {}) => {
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
  return readProject(file, variables)
}
const refusal = (content: unknown): string => {
  try {
    read(content)
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError)
    return (error as Error).message.replace(file, 'FILE')
  }
  throw new Error(`${JSON.stringify(content)} was accepted`)
}

test('graphs are named by path and export, with or without a description', () => {
  const project = read({
    graphs: { a: './src/a.ts:graph', b: { path: './b.mjs:make', description: 'Talks.' }, c: 'c.tsx' },
  })
  expect(project.graphs).toEqual([
    { graph_id: 'a', path: join(dir, 'src/a.ts'), export: 'graph' },
    { graph_id: 'b', path: join(dir, 'b.mjs'), export: 'make', description: 'Talks.' },
    { graph_id: 'c', path: join(dir, 'c.tsx'), export: 'default' },
  ])
})

test('the custom app is named by path and export', () => {
  expect(read({ graphs, http: { app: './src/app.ts:api' } }).app).toEqual({
    path: join(dir, 'src/app.ts'),
    export: 'api',
  })
  expect(read({ graphs, http: { app: 'app.mjs' } }).app).toEqual({ path: join(dir, 'app.mjs'), export: 'default' })
  expect(read({ graphs }).app).toBeUndefined()
  expect(refusal({ graphs, http: { app: './app.py:app' } })).toMatch(/^FILE: http\.app is a Python app, which/)
  expect(refusal({ graphs, http: { app: './app' } })).toMatch(
    /^FILE: http\.app is ".\/app": it must be "\.\/file\.ts:export"/,
  )
  expect(refusal({ graphs, http: { app: {} } })).toBe('FILE: http.app must be "./file.ts:export".')
  expect(refusal({ graphs, http: { ap: './app.ts:app' } })).toBe('FILE: http.ap is not a known key: did you mean app?')
})

test('env is a file, an object, or names taken from the environment', () => {
  writeFileSync(join(dir, 'test.env'), 'A=1\n')
  expect(read({ graphs, env: 'test.env' })).toMatchObject({ env: { A: '1' }, envFile: join(dir, 'test.env') })
  expect(read({ graphs, env: { A: 'x', B: 2, C: true } }).env).toEqual({ A: 'x', B: '2', C: 'true' })
  const listed = read({ graphs, env: ['A', 'B'] }, { A: 'x', Z: 'z' })
  expect(listed.env).toEqual({ A: 'x' })
  expect(listed.ignored).toEqual([{ key: 'env.B', reason: 'it is not set in the environment' }])
})

test('cors and switched-off routes are honoured', () => {
  const project = read({
    graphs,
    http: {
      cors: {
        allow_origins: ['https://a.example'],
        allow_methods: ['*'],
        allow_headers: ['x-a'],
        allow_credentials: true,
        max_age: 60,
      },
      disable_store: true,
      disable_runs: false,
      disable_mcp: true,
    },
  })
  expect(project.cors).toEqual({
    origins: ['https://a.example'],
    headers: ['x-a'],
    credentials: true,
    maxAgeSeconds: 60,
  })
  expect(project.disabled).toEqual(['store'])
})

test('the time to live of threads is honoured, in the units of the file', () => {
  const ttl = { strategy: 'keep_latest', default_ttl: 60, sweep_interval_minutes: 0.5, sweep_limit: 10 }
  expect(read({ graphs, checkpointer: { ttl } }).retention).toEqual({
    threadTtl: { strategy: 'keep_latest', ttl: 60 },
    sweepIntervalSeconds: 30,
    sweepLimit: 10,
  })
  expect(read({ graphs, checkpointer: { ttl: { default_ttl: 5 } } }).retention).toEqual({
    threadTtl: { strategy: 'delete', ttl: 5 },
  })
  for (const none of [undefined, {}, { backend: 'default' }, { ttl: null }, { ttl: { default_ttl: null } }])
    expect(read({ graphs, checkpointer: none }).retention).toEqual({})
})

test('what is said of the store is taken as it is', () => {
  const store = {
    index: { dims: 3, embed: './embed.ts:embed', fields: ['title'] },
    ttl: { refresh_on_read: false, default_ttl: 60, sweep_interval_minutes: 5 },
  }
  expect(read({ graphs, store }).store).toEqual(store)
  expect(read({ graphs }).store).toEqual({})
})

test('webhooks: the url policy, and headers with what the environment holds', () => {
  const url = { require_https: true, allowed_domains: ['*.a.example'], allowed_ports: [443], max_url_length: 9 }
  const headers = { authorization: `Bearer ${inserted('env.LG_WEBHOOK_A')}/\${{env.LG_WEBHOOK_B}}`, 'x-plain': 'word' }
  const variables = { LG_WEBHOOK_A: 'one' }
  const project = read(
    { graphs, env: { LG_WEBHOOK_B: 'two' }, webhooks: { url, headers }, http: { disable_webhooks: true } },
    variables,
  )
  expect(project.webhooks).toEqual({
    requireHttps: true,
    allowedDomains: ['*.a.example'],
    allowedPorts: [443],
    maxUrlLength: 9,
    headers: { authorization: 'Bearer one/two', 'x-plain': 'word' },
  })
  expect(project.disabled).toEqual(['webhooks'])
  const prefixed = { env_prefix: 'MY_', headers: { a: inserted('env.MY_A') } }
  expect(read({ graphs, webhooks: prefixed }, { MY_A: '1' }).webhooks).toEqual({ headers: { a: '1' } })
  const open = { url: { allowed_domains: [], allowed_ports: [], disable_loopback: true } }
  expect(read({ graphs, webhooks: open }).webhooks).toEqual({ headers: {}, toApp: 'forbidden' })
})

test.each<[object, string]>([
  [{ headers: { a: inserted('env.HOME') } }, 'headers.a names the variable HOME, which must begin with LG_WEBHOOK_.'],
  [{ headers: { a: inserted('env.LG_WEBHOOK_C') } }, 'headers.a names the variable LG_WEBHOOK_C, which is not set.'],
  [
    { headers: { a: inserted('LG_WEBHOOK_A') } },
    `headers.a holds ${inserted('LG_WEBHOOK_A')}: write it as ${inserted('env.NAME')}.`,
  ],
  [{ headers: { 'Webhook-Id': 'x' } }, 'headers.Webhook-Id is a header that the server sets itself: remove it.'],
  [{ headers: { host: 'x' } }, 'headers.host is a header that the server sets itself: remove it.'],
  [
    { headers: { a: 'b\r\nc: d' } },
    'headers.a cannot be sent as a header: its name or value has characters that headers cannot hold.',
  ],
  [{ header: {} }, 'header is not a known key: did you mean headers?'],
  [{ url: { require_http: true } }, 'url.require_http is not a known key: did you mean require_https?'],
  [{ url: { allowed_domains: ['https://a.example'] } }, 'url.allowed_domains.0 must be a host, or *. and a domain.'],
  [{ env_prefix: '' }, 'env_prefix must not be empty.'],
])('webhooks %j is refused', (webhooks, words) => {
  expect(refusal({ graphs, webhooks })).toBe(`FILE: webhooks.${words}`)
})

test('a node_version other than the running one gets a word', () => {
  const [running] = process.versions.node.split('.')
  expect(read({ graphs, node_version: running }).ignored).toEqual([])
  expect(read({ graphs, node_version: '18' }).ignored).toEqual([
    { key: 'node_version', reason: `it asks for Node 18 and this is Node ${process.versions.node}` },
  ])
})

test.each(Object.keys(ignoredKeys))('%s is ignored with a word', (key) => {
  expect(read({ graphs, [key]: ['x'] }).ignored.map((word) => word.key)).toEqual([key])
})

test.each(refusedPaths)('%s is refused by name', (key) => {
  const nested = key.split('.').reduceRight<unknown>((value, name) => ({ [name]: value }), 'x')
  expect(refusal({ graphs, ...(nested as object) })).toMatch(new RegExp(`^FILE: ${key} is `))
})

test.each<[string, unknown, string]>([
  ['a mistyped key', { graps: {}, graphs }, 'FILE: graps is not a known key: did you mean graphs?'],
  ['an unknown key', { graphs, colour: 1 }, 'FILE: colour is not a known key.'],
  [
    'an unknown http key',
    { graphs, http: { disable_storee: true } },
    'FILE: http.disable_storee is not a known key: did you mean disable_store?',
  ],
  ['an unknown cors key', { graphs, http: { cors: { origin: [] } } }, 'FILE: http.cors.origin is not a known key.'],
  [
    'an unknown strategy',
    { graphs, checkpointer: { ttl: { strategy: 'archive' } } },
    'FILE: checkpointer.ttl.strategy must be "delete" or "keep_latest".',
  ],
  [
    'a mistyped key of the time to live',
    { graphs, checkpointer: { ttl: { sweep_limits: 5 } } },
    'FILE: checkpointer.ttl.sweep_limits is not a known key: did you mean sweep_limit?',
  ],
  [
    'another backend',
    { graphs, checkpointer: { backend: 'mongo' } },
    'FILE: checkpointer.backend must be "default": checkpoints are kept in Postgres.',
  ],
  [
    'a part of a refused key',
    { graphs, ui_config: { shared: [] } },
    'FILE: ui_config.shared is not supported yet: remove it.',
  ],
  [
    'an index without its size',
    { graphs, store: { index: { embed: 'openai:x' } } },
    'FILE: store.index.dims must say how many numbers a vector has.',
  ],
  [
    'an index without what makes its vectors',
    { graphs, store: { index: { dims: 3 } } },
    'FILE: store.index.embed must be "provider:model" or "./file.ts:function".',
  ],
  [
    'an unknown key of the store',
    { graphs, store: { ttl: { default_tt: 1 } } },
    'FILE: store.ttl.default_tt is not a known key: did you mean default_ttl?',
  ],
  [
    'a time to live of nothing',
    { graphs, store: { ttl: { default_ttl: 0 } } },
    'FILE: store.ttl.default_ttl must be minutes, more than 0.',
  ],
  ['no graphs', {}, 'FILE: graphs is missing: name your graphs, as in {"graphs": {"agent": "./agent.ts:graph"}}.'],
  ['empty graphs', { graphs: {} }, 'FILE: graphs names no graph: add one, as in {"agent": "./agent.ts:graph"}.'],
  ['a list', '[]', 'FILE: must hold a JSON object with the key graphs.'],
  [
    'a graph of the wrong type',
    { graphs: { a: 1 } },
    'FILE: graphs.a must be "./file.ts:export" or {"path": "./file.ts:export", "description": "..."}.',
  ],
  [
    'a Python graph',
    { graphs: { a: './a.py:graph' } },
    'FILE: graphs.a is a Python graph, which this server cannot run yet: only TypeScript and JavaScript graphs are served.',
  ],
  [
    'a graph that is no script',
    { graphs: { a: './a.txt:graph' } },
    'FILE: graphs.a is "./a.txt:graph": it must be "./file.ts:export" (.ts .mts .cts .tsx .js .mjs .cjs .jsx).',
  ],
  [
    'an env file that is not there',
    { graphs, env: '.missing' },
    'FILE: env names the file .missing, which does not exist: create it, or remove the key.',
  ],
  [
    'env of the wrong type',
    { graphs, env: 3 },
    'FILE: env must be the path of an env file, a list of variable names, or an object of values.',
  ],
  [
    'credentials for everyone',
    { graphs, http: { cors: { allow_credentials: true } } },
    'FILE: http.cors.allow_credentials needs http.cors.allow_origins to name the origins: browsers refuse credentials with *.',
  ],
])('%s is refused with one sentence', (_, content, sentence) => {
  expect(refusal(content)).toBe(sentence)
})

test.each<[string, string]>([
  ['{\n  "graphs": {,}\n}', 'FILE:2:14 is not valid JSON'],
  ['{"graphs": x}', 'FILE:1:12 is not valid JSON'],
  ['{\n  "graphs": {"agent": "./agent.ts:graph"},\n  "env": .env\n}', 'FILE:3:10 is not valid JSON'],
  ['{"graphs": {', 'FILE:1:13 is not valid JSON'],
  ['', 'FILE:1:1 is not valid JSON'],
])('bad JSON %j is refused with its line and column', (text, start) => {
  expect(refusal(text)).toMatch(new RegExp(`^${start}: .+\\.$`))
})

test('a file that cannot be read is refused by its path', () => {
  expect(() => readProject(join(dir, 'none.json'), {})).toThrow(
    `${join(dir, 'none.json')}: there is no such file; give the path of a langgraph.json with --config.`,
  )
  expect(() => readProject(dir, {})).toThrow(`${dir}: it is a folder`)
})

test('the nearest known word is at most two edits away', () => {
  expect(nearest('grphs', ['env', 'graphs'])).toBe('graphs')
  expect(nearest('zzz', ['env', 'graphs'])).toBeUndefined()
})
