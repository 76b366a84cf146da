// Which keys langgraph.json may have: which are honoured, which are ignored with a word, which are refused. Data, and the
// search for the key that was meant.

import { z } from 'zod'

const later = 'is not supported yet: remove it'
const image = 'it is about building images'

/** Keys that make no difference here, with the reason. */
export const ignoredKeys: Record<string, string> = {
  dependencies: "graphs import what their own folder's node_modules holds",
  dockerfile_lines: image,
  docker_compose_file: image,
  base_image: image,
  image_distro: image,
  keep_pkg_tools: image,
  pip_config_file: image,
  pip_installer: image,
  _INTERNAL_docker_tag: image,
  python_version: 'graphs run on Node',
  api_version: 'the server is the one you started',
}

/** Keys that would change what the server does, with the words that stop the start. */
export const refusedKeys: Record<string, string> = {
  auth: later,
  encryption: later,
  ui: later,
  ui_config: later,
  node_loader: later,
  source: 'is about Python projects, which are not supported yet: remove it',
}

/** The same for the keys of `http`. */
export const refusedHttp: Record<string, string> = {
  configurable_headers: later,
  logging_headers: later,
  middleware_order: later,
  enable_custom_route_auth: later,
  mount_prefix: later,
}
/** The same for the keys of `checkpointer`. */
export const refusedCheckpointer: Record<string, string> = {
  path: 'is not supported: checkpoints are kept in the database of the server; remove it',
  serde: 'is not supported: there is one format, and nothing in it is executed; remove it',
}
export const routeGroups = ['assistants', 'threads', 'runs', 'store', 'webhooks', 'meta'] as const
// Not served at all, so switching them off is granted already.
const absent = ['disable_mcp', 'disable_a2a', 'disable_ui']

const domain = /^(\*\.)?[^\s*/:@]+$/

export const graphSchema = z.union(
  [z.string(), z.strictObject({ path: z.string(), description: z.string().optional() })],
  {
    error: 'must be "./file.ts:export" or {"path": "./file.ts:export", "description": "..."}',
  },
)
export const corsSchema = z.strictObject({
  allow_origins: z.array(z.string()).optional(),
  allow_methods: z.array(z.string()).optional(),
  allow_headers: z.array(z.string()).optional(),
  expose_headers: z.array(z.string()).optional(),
  allow_credentials: z.boolean().optional(),
  max_age: z.number().int().nonnegative().optional(),
})
export const webhooksSchema = z.strictObject({
  env_prefix: z.string().min(1, 'must not be empty').optional(),
  url: z
    .strictObject({
      require_https: z.boolean().optional(),
      allowed_domains: z.array(z.string().regex(domain, 'must be a host, or *. and a domain')).optional(),
      allowed_ports: z.array(z.number().int().min(1).max(65_535)).optional(),
      max_url_length: z.number().int().min(1).max(65_536).optional(),
      disable_loopback: z.boolean().optional(),
    })
    .optional(),
  headers: z.record(z.string(), z.string()).optional(),
})
const switches = Object.fromEntries(
  [...routeGroups.map((name) => `disable_${name}`), ...absent].map((key) => [key, z.boolean().optional()]),
)
const minutes = z.number().positive().max(100_000_000)
const checkpointerSchema = z.strictObject({
  backend: z.literal('default', { error: 'must be "default": checkpoints are kept in Postgres' }).optional(),
  ttl: z
    .strictObject({
      strategy: z.enum(['delete', 'keep_latest'], { error: 'must be "delete" or "keep_latest"' }).optional(),
      default_ttl: minutes.nullable().optional(),
      sweep_interval_minutes: minutes.max(10_000).optional(),
      sweep_limit: z.number().int().positive().optional(),
    })
    .nullable()
    .optional(),
})
const storeSchema = z.strictObject({
  index: z
    .strictObject({
      dims: z.number('must say how many numbers a vector has'),
      embed: z.string('must be "provider:model" or "./file.ts:function"'),
      fields: z.array(z.string()).optional(),
    })
    .optional(),
  ttl: z
    .strictObject({
      refresh_on_read: z.boolean().optional(),
      default_ttl: z.number().positive('must be minutes, more than 0').max(100_000_000).optional(),
      sweep_interval_minutes: z.number().min(0.01, 'must be minutes, at least 0.01').max(10_000).optional(),
    })
    .optional(),
})
/** The keys that have an effect. */
export const projectSchema = z.strictObject({
  $schema: z.string().optional(),
  graphs: z.record(z.string().min(1), graphSchema),
  env: z
    .union([z.string(), z.array(z.string()), z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]))], {
      error: 'must be the path of an env file, a list of variable names, or an object of values',
    })
    .optional(),
  node_version: z.union([z.string(), z.number()]).optional(),
  checkpointer: checkpointerSchema.optional(),
  store: storeSchema.optional(),
  webhooks: webhooksSchema.optional(),
  http: z
    .strictObject({
      app: z.string('must be "./file.ts:export"').optional(),
      cors: corsSchema.optional(),
      ...switches,
    })
    .optional(),
})

/** The keys that may stand at `path` ('' for the top), for "did you mean". */
export function knownKeys(path: string): string[] {
  if (path === '') return [...Object.keys(projectSchema.shape), ...Object.keys(ignoredKeys)]
  if (path === 'http') return ['app', 'cors', ...Object.keys(switches)]
  if (path === 'checkpointer') return Object.keys(checkpointerSchema.shape)
  if (path === 'checkpointer.ttl') return Object.keys(checkpointerSchema.shape.ttl.unwrap().unwrap().shape)
  const inStore = {
    store: storeSchema.shape,
    'store.index': storeSchema.shape.index.unwrap().shape,
    'store.ttl': storeSchema.shape.ttl.unwrap().shape,
  }[path]
  if (inStore) return Object.keys(inStore)
  if (path === 'webhooks') return Object.keys(webhooksSchema.shape)
  if (path === 'webhooks.url') return Object.keys(webhooksSchema.shape.url.unwrap().shape)
  return path === 'http.cors' ? Object.keys(corsSchema.shape) : ['path', 'description']
}

/** The known word that is at most two edits away from `word`, for "did you mean". */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const scored = known.map((candidate) => ({ candidate, edits: distance(word.toLowerCase(), candidate.toLowerCase()) }))
  return scored.filter(({ edits }) => edits <= 2).sort((a, b) => a.edits - b.edits)[0]?.candidate
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      next.push(Math.min((next[j - 1] as number) + 1, (row[j] as number) + 1, (row[j - 1] as number) + cost))
    }
    row = next
  }
  return row[b.length] as number
}
