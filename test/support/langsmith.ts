// A LangSmith that records what it is sent: runs by id as they stand after all their pieces, and feedback tokens asked for.
// In charge of speaking its ingest API (multipart, batch and one by one) as far as the client library needs it.

import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'

export interface Trace {
  id: string
  name: string
  run_type: string
  session_name?: string
  reference_example_id?: string | null
  trace_id?: string
  parent_run_id?: string | null
  end_time?: unknown
  error?: string | null
  inputs?: unknown
  outputs?: unknown
  extra: { metadata: Record<string, unknown> }
  [field: string]: unknown
}

export interface LangSmith {
  url: string
  /** Everything known of each run, by its id. */
  runs: Map<string, Trace>
  /** Every request, as `METHOD /path`. */
  requests: string[]
  /** The API keys it was called with. */
  keys: Set<string>
  /** Run ids and keys that presigned feedback urls were asked for. */
  feedback: { run_id: string; feedback_key: string }[]
  close(): Promise<void>
}

/** Starts one. A `hanging` one takes requests and never answers; a `batch` one does without multipart. */
export async function startLangSmith({ hanging = false, batch = false } = {}): Promise<LangSmith> {
  const runs: LangSmith['runs'] = new Map()
  const requests: string[] = []
  const keys = new Set<string>()
  const feedback: LangSmith['feedback'] = []
  const learn = (run: object, id = String((run as { id?: unknown }).id)) => {
    runs.set(id, { ...runs.get(id), ...run, id } as Trace)
  }
  const answer = async (method: string, path: string, request: IncomingMessage): Promise<unknown> => {
    if (path === '/info') return { batch_ingest_config: { use_multipart_endpoint: !batch } }
    const body = await bodyOf(request)
    if (path === '/runs/multipart') {
      for (const [name, value] of await parts(request, body)) {
        const [, id = '', field] = name.split('.')
        learn(field === undefined ? (value as object) : { [field]: value }, id)
      }
    } else if (path === '/runs/batch') {
      const { post = [], patch = [] } = JSON.parse(body.toString()) as { post?: object[]; patch?: object[] }
      for (const run of [...post, ...patch]) learn(run)
    } else if (path === '/feedback/tokens') {
      const asked = JSON.parse(body.toString()) as { run_id: string; feedback_key: string }
      feedback.push(asked)
      return { id: asked.run_id, url: `https://smith.test/feedback/${asked.feedback_key}` }
    } else if (path.startsWith('/runs')) {
      learn(JSON.parse(body.toString()), method === 'PATCH' ? path.slice('/runs/'.length) : undefined)
    }
    return {}
  }
  const server = createServer(async (request, response) => {
    const { method = '', url: path = '' } = request
    requests.push(`${method} ${path}`)
    const key = request.headers['x-api-key']
    if (typeof key === 'string') keys.add(key)
    if (hanging) return
    const value = await answer(method, path, request)
    response.setHeader('content-type', 'application/json').end(JSON.stringify(value))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    runs,
    requests,
    keys,
    feedback,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

async function parts(request: IncomingMessage, body: Buffer): Promise<[string, unknown][]> {
  const headers = { 'content-type': request.headers['content-type'] ?? '' }
  const form = await new Response(new Uint8Array(body), { headers }).formData()
  return [...form].map(([name, value]) => [name, JSON.parse(value as string)])
}
