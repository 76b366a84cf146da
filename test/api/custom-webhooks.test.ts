// Webhooks whose URL is relative: delivered to the custom app as others are to their receivers, and to nobody else. On Postgres the
// process that delivers is another one than the one that was asked, with an app process of its own.

import { Webhook } from 'standardwebhooks'
import { v7 } from 'uuid'
import { beforeAll, expect, test } from 'vitest'
import { defaultServerConfig } from '../../src/config.ts'
import type { Delivery } from '../../src/contract/webhooks.ts'
import { customApp } from '../support/apps/options.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { eachStack, type TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
const webhooks = { ...defaultServerConfig.webhooks, secrets: [SECRET], headers: { 'x-from': 'heddle' } }

interface Received {
  headers: Record<string, string>
  text: string
}

eachStack((stack) => {
  const { graphs } = createRunGraphs()
  let asked: TestServer
  let worker: TestServer
  beforeAll(async () => {
    const options = { graphs, ...customApp, config: { webhooks } }
    asked = await stack.heddle({ ...options, role: stack.name === 'embedded' ? 'all' : 'api' })
    worker = stack.name === 'embedded' ? asked : await stack.heddle({ ...options, role: 'worker' })
  })
  const run = async (webhook: string): Promise<string> => {
    const body = { assistant_id: 'steps', input: { log: ['in'] }, webhook }
    const response = await asked.request('POST', '/runs', body)
    const made = (await response.json()) as { run_id: string; kwargs: object }
    expect([response.status, made]).toEqual([200, expect.objectContaining({ run_id: expect.any(String) })])
    return made.run_id
  }
  const came = async (path: string): Promise<Received[]> => {
    const response = await worker.request('GET', path)
    return response.status === 200 ? ((await response.json()) as Received[]) : []
  }
  const delivery = (runId: string, fits: (delivery: Delivery) => boolean) =>
    until('the delivery is as it should be', async () => {
      const [one] = (await (await asked.request('GET', `/runs/${runId}/webhooks`)).json()) as Delivery[]
      return one !== undefined && fits(one) && one
    })

  test('one is delivered to the app, signed, with the headers and the body of any webhook', async () => {
    const path = `/hooks/plain/${v7()}`
    const runId = await run(`${path}/../${path.split('/').at(-1)}?order=7#part`)
    const told = await delivery(runId, ({ status }) => status === 'delivered')
    expect(told).toMatchObject({ url: `${path}?order=7`, attempts: 1, last_status: 204, last_error: null })
    const [one, ...others] = await came(path)
    expect(others).toEqual([])
    expect(one?.headers).toMatchObject({
      ...{ host: 'localhost', 'content-type': 'application/json', 'x-from': 'heddle' },
      ...{ 'user-agent': `heddle/${defaultServerConfig.version}`, 'webhook-id': told.delivery_id },
    })
    const body = new Webhook(SECRET).verify(one?.text ?? '', one?.headers ?? {})
    expect(body).toMatchObject({ run_id: runId, status: 'success', kwargs: { webhook: `${path}?order=7` } })
    expect(body).toMatchObject({ values: { log: ['in', 'first', 'second', 'third'] } })
  })

  test('one that fails is tried again, and one that was delivered is replayed, with the same id', async () => {
    const path = `/hooks/flaky/${v7()}`
    const runId = await run(path)
    const failed = await delivery(runId, ({ last_status }) => last_status === 503)
    expect(failed).toMatchObject({ status: 'pending', attempts: 1, last_error: 'The receiver answered 503.' })
    await delivery(runId, ({ status, attempts }) => status === 'delivered' && attempts === 2)
    expect((await asked.request('POST', `/webhooks/${failed.delivery_id}/replay`)).status).toBe(200)
    await delivery(runId, ({ status, attempts }) => status === 'delivered' && attempts === 1)
    const all = await came(path)
    expect(all.map(({ headers }) => headers['webhook-id'])).toEqual(Array(3).fill(failed.delivery_id))
  })

  test('no way leads through the app to the routes of the server', async () => {
    // Middleware of the app is there, and calls `next()`; the other path is the server's alone.
    const [through, own] = [await run('/threads/search'), await run('/store/items')]
    for (const id of [through, own]) {
      const told = await delivery(id, ({ last_error }) => last_error !== null)
      expect(told).toMatchObject({ last_status: 404, last_error: 'The receiver answered 404.' })
    }
  })

  test('an app that ends in the middle is a failed try', async () => {
    const runId = await run('/hooks/exit/once')
    const failed = await delivery(runId, ({ attempts, last_error }) => attempts === 1 && last_error !== null)
    expect(failed).toMatchObject({
      ...{ status: 'pending', last_status: null },
      last_error: 'The receiver closed the connection without an answer.',
    })
    await until('it is up again', async () => (await worker.request('GET', '/pid')).status === 200)
  })

  test('every place that takes a webhook takes one, and refuses what is none', async () => {
    const cron = { assistant_id: 'steps', schedule: '@yearly' }
    const made = await asked.request('POST', '/runs/crons', { ...cron, webhook: '/hooks/plain/cron' })
    expect([made.status, await made.json()]).toEqual([
      200,
      expect.objectContaining({ payload: expect.objectContaining({ webhook: '/hooks/plain/cron' }) }),
    ])
    const { thread_id } = await asked.client.threads.create()
    for (const [path, body] of [
      ['/runs', { assistant_id: 'steps' }],
      ['/runs/crons', cron],
      [`/threads/${thread_id}/runs`, { assistant_id: 'steps' }],
      [`/threads/${thread_id}/runs/crons`, cron],
    ] as const) {
      const refused = await asked.request('POST', path, { ...body, webhook: '//evil.example/x' })
      expect([path, refused.status, await refused.json()]).toEqual([
        path,
        422,
        {
          code: 'validation_failed',
          detail: expect.stringMatching(/^body\.webhook: must be a path of the custom app: one slash at its beginning/),
        },
      ])
    }
  })
})

eachStack(
  (stack) => {
    test('webhooks.url.disable_loopback keeps webhooks from the app', async () => {
      const config = { webhooks: { ...webhooks, toApp: 'forbidden' } } as const
      const server = await stack.heddle({ graphs: createRunGraphs().graphs, ...customApp, config })
      const refused = await server.request('POST', '/runs', { assistant_id: 'steps', webhook: '/hooks/plain/x' })
      expect([refused.status, await refused.json()]).toEqual([
        422,
        {
          code: 'validation_failed',
          detail:
            'body.webhook: must be an absolute http or https URL: webhooks.url.disable_loopback of this server forbids relative ones',
        },
      ])
    })
  },
  { only: ['embedded'] },
)
