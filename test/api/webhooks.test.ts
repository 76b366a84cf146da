// Webhooks through the API: every way of creating and of ending a run, what is sent, and what is told of deliveries.

import { Webhook } from 'standardwebhooks'
import { v7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { defaultServerConfig } from '../../src/config.ts'
import type { Delivery } from '../../src/contract/webhooks.ts'
import { ODD_TEXT } from '../support/graphs/failures.ts'
import { type Received, type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { eachRunServer } from './run-server.ts'

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
const webhooks = {
  ...defaultServerConfig.webhooks,
  secrets: [SECRET],
  allowPrivate: true,
  headers: { 'x-from': 'heddle' },
}

eachRunServer(
  (server) => {
    let receiver: Receiver
    beforeAll(async () => {
      receiver = await startReceiver()
    })
    afterAll(() => receiver.close())

    const place = () => `/${v7()}`
    const deliveries = async (runId: string): Promise<Delivery[]> => {
      const response = await server.request('GET', `/runs/${runId}/webhooks`)
      expect(response.status).toBe(200)
      return response.json() as Promise<Delivery[]>
    }
    const settled = (runId: string) =>
      until('the delivery has ended', async () => {
        const [delivery] = await deliveries(runId)
        return delivery !== undefined && delivery.status !== 'pending' && delivery
      })
    const only = async (path: string): Promise<Received> => {
      const [one, ...others] = await receiver.came(path)
      expect(others).toEqual([])
      return one as Received
    }
    const body = (path: string, more: object = {}) => ({
      assistant_id: 'steps',
      input: { log: ['in'] },
      webhook: receiver.url + path,
      ...more,
    })
    const log = ['in', 'first', 'second', 'third']

    test('a run that ends is told of with its row, its times and its values, signed', async () => {
      const path = place()
      const threadId = await server.thread()
      const made = await server.request('POST', `/threads/${threadId}/runs`, body(path, { metadata: { mine: true } }))
      const run = (await made.json()) as { run_id: string; kwargs: object }
      const { method, headers, text, body: told } = await only(path)
      const ended = await server.ended(threadId, run.run_id)
      expect(method).toBe('POST')
      expect(headers).toMatchObject({
        'content-type': 'application/json',
        'content-length': String(Buffer.byteLength(text)),
        'user-agent': `heddle/${defaultServerConfig.version}`,
        'x-from': 'heddle',
      })
      expect(new Webhook(SECRET).verify(text, headers as Record<string, string>)).toEqual(told)
      const { run_started_at, run_ended_at, webhook_sent_at, values, ...row } = told
      const { run_id, thread_id, assistant_id, created_at, updated_at, status, metadata, multitask_strategy } = ended
      expect(row).toEqual({
        ...{
          run_id,
          thread_id,
          assistant_id,
          status,
          metadata,
          kwargs: run.kwargs,
          multitask_strategy,
          cancel_reason: null,
        },
        created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/),
        updated_at: expect.any(String),
      })
      expect(status).toBe('success')
      expect(metadata).toMatchObject({ mine: true })
      expect(run.kwargs).toMatchObject({ webhook: receiver.url + path, input: { log: ['in'] } })
      expect(values).toMatchObject({ log })
      const instants = [created_at, row.created_at, run_started_at, run_ended_at, updated_at, webhook_sent_at].map(
        (at) => Date.parse(String(at)),
      )
      expect(instants).toEqual(instants.toSorted((a, b) => a - b))
      expect(instants[0]).toBe(instants[1])
      const [delivery] = [await settled(run_id)]
      expect(delivery).toMatchObject({
        ...{ delivery_id: headers['webhook-id'], run_id, thread_id: threadId, url: receiver.url + path },
        ...{ status: 'delivered', attempts: 1, last_status: 204, last_error: null, next_attempt_at: null },
      })
    })

    test('every way of creating a run takes a webhook', async () => {
      const threadId = await server.thread()
      const paths = Array.from({ length: 8 }, place)
      const [create, stream, wait, stateless, statelessStream, statelessWait, one, two] = paths.map((path) =>
        body(path),
      )
      const answers = [
        await server.request('POST', `/threads/${threadId}/runs`, create),
        await server.request('POST', `/threads/${threadId}/runs/stream`, stream),
        await server.request('POST', `/threads/${threadId}/runs/wait`, wait),
        await server.request('POST', '/runs', stateless),
        await server.request('POST', '/runs/stream', statelessStream),
        await server.request('POST', '/runs/wait', statelessWait),
        await server.request('POST', '/runs/batch', [one, two]),
      ]
      for (const answer of answers) expect([answer.status, await answer.text()]).toEqual([200, expect.any(String)])
      for (const path of paths) expect((await only(path)).body).toMatchObject({ status: 'success' })
      const later = place()
      await server.client.runs.create(threadId, 'steps', { webhook: receiver.url + later, afterSeconds: 0.05 })
      expect((await only(later)).body).toMatchObject({ status: 'success' })
    })

    test('a run that fails is told of with its error, and the values that the thread is left with', async () => {
      const path = place()
      const threadId = await server.thread()
      await server.client.runs.wait(threadId, 'steps', { input: { log: ['before'] } })
      const fail = { log: [], fail: { second: 'error' } }
      const wait = server.request('POST', `/threads/${threadId}/runs/wait`, body(path, { input: fail }))
      const { __error__ } = (await (await wait).json()) as { __error__: object }
      const { body: told } = await only(path)
      expect(told).toMatchObject({ status: 'error', error: __error__ })
      expect(told.values).toEqual((await server.client.threads.get(threadId)).values)
    })

    test('a run that stops at an interrupt is told of as success, as its status says', async () => {
      const path = place()
      const threadId = await server.thread()
      const asked = body(path, { assistant_id: 'approve', input: { topic: 'cake' } })
      await server.request('POST', `/threads/${threadId}/runs/wait`, asked)
      expect((await only(path)).body).toMatchObject({ status: 'success', values: { topic: 'cake' } })
      expect((await server.client.threads.get(threadId)).status).toBe('interrupted')
    })

    test('runs that are cancelled are told of, whether they ran or waited', async () => {
      const [ran, waited] = [place(), place()]
      const threadId = await server.thread()
      const gate = v7()
      const create = async (asked: object) =>
        (await (await server.request('POST', `/threads/${threadId}/runs`, asked)).json()) as { run_id: string }
      const first = await create(body(ran, { input: { log: [], hold: { second: gate } } }))
      await server.gates.reached(gate)
      const second = await create(body(waited))
      await server.client.runs.cancel(threadId, second.run_id)
      expect((await only(waited)).body).toMatchObject({
        ...{ run_id: second.run_id, status: 'interrupted', cancel_reason: 'cancelled through the API' },
        ...{ run_started_at: null, run_ended_at: expect.any(String) },
      })
      await server.client.runs.cancel(threadId, first.run_id, true)
      expect((await only(ran)).body).toMatchObject({
        run_id: first.run_id,
        status: 'interrupted',
        values: { log: ['first'] },
      })
    })

    test('a run that is rolled back was never there: nothing is told of it, running or waiting', async () => {
      const [ran, waited, after] = [place(), place(), place()]
      const threadId = await server.thread()
      const gate = v7()
      const create = async (asked: object) =>
        (await (await server.request('POST', `/threads/${threadId}/runs`, asked)).json()) as { run_id: string }
      const first = await create(body(ran, { input: { log: [], hold: { second: gate } } }))
      await server.gates.reached(gate)
      const second = await create(body(waited))
      const third = await create(body(after, { multitask_strategy: 'rollback' }))
      await only(after)
      for (const { run_id } of [first, second])
        expect((await server.request('GET', `/runs/${run_id}/webhooks`)).status).toBe(404)
      expect(await deliveries(third.run_id)).toHaveLength(1)
      expect(receiver.received.filter(({ path }) => path === ran || path === waited)).toEqual([])
    })

    test('text that Postgres cannot hold is delivered as it was', async () => {
      const path = place()
      await server.request('POST', '/runs/wait', body(path, { input: { log: [], fail: { second: 'text' } } }))
      const { text, headers, body: told } = await only(path)
      expect(new Webhook(SECRET).verify(text, headers as Record<string, string>)).toEqual(told)
      expect(told.values).toMatchObject({ odd: ODD_TEXT })
    })

    test('a failing receiver is tried again with the same id and the same body, until it takes it', async () => {
      const path = place()
      receiver.on(path, (response, _, nth) => {
        if (nth === 1) response.writeHead(500).end('no')
        else if (nth === 2) response.writeHead(429, { 'retry-after': '60' }).end()
        else response.writeHead(200).end('yes')
      })
      const run = await server.client.runs.create(await server.thread(), 'steps', { webhook: receiver.url + path })
      const replay = async (id: string) =>
        (await server.request('POST', `/webhooks/${id}/replay`)).json() as Promise<Delivery>
      const waiting = (last_status: number) =>
        until('it waits for its next try', async () => {
          const [delivery] = await deliveries(run.run_id)
          return delivery?.last_status === last_status && delivery
        })
      const wait = ({ last_attempt_at, next_attempt_at }: Delivery) =>
        (Date.parse(String(next_attempt_at)) - Date.parse(String(last_attempt_at))) / 1_000

      const first = await waiting(500)
      expect(first).toMatchObject({
        status: 'pending',
        attempts: 1,
        last_error: 'The receiver answered 500.',
        ended_at: null,
      })
      expect(wait(first)).toBeGreaterThanOrEqual(5)
      expect(await replay(first.delivery_id)).toMatchObject({ status: 'pending', attempts: 0 })
      const second = await waiting(429)
      expect(wait(second)).toBeGreaterThanOrEqual(60)
      await replay(first.delivery_id)
      expect(await settled(run.run_id)).toMatchObject({ status: 'delivered', last_status: 200, last_error: null })

      const came = await receiver.came(path, 3)
      expect(new Set(came.map(({ headers }) => headers['webhook-id']))).toEqual(new Set([first.delivery_id]))
      for (const one of came) {
        new Webhook(SECRET).verify(one.text, one.headers as Record<string, string>)
        expect({ ...one.body, webhook_sent_at: 0 }).toEqual({ ...came[0]?.body, webhook_sent_at: 0 })
      }
    })

    test('410 stops, a redirect is not followed, and both can be replayed', async () => {
      const [gone, moved, hidden] = [place(), place(), place()]
      receiver.on(gone, (response, _, nth) => response.writeHead(nth === 1 ? 410 : 200).end())
      receiver.on(moved, (response) => response.writeHead(302, { location: receiver.url + hidden }).end())
      const run = await server.client.runs.create(await server.thread(), 'steps', { webhook: receiver.url + gone })
      const stopped = await settled(run.run_id)
      expect(stopped).toMatchObject({ status: 'failed', attempts: 1, last_status: 410, next_attempt_at: null })
      const other = await server.client.runs.create(await server.thread(), 'steps', { webhook: receiver.url + moved })
      const waiting = await until('the redirect is noticed', async () => {
        const [delivery] = await deliveries(other.run_id)
        return delivery?.last_status === 302 && delivery
      })
      expect(waiting).toMatchObject({
        status: 'pending',
        last_error: 'The receiver answered 302: redirects are not followed.',
      })
      expect(receiver.received.filter(({ path }) => path === hidden)).toEqual([])
      expect((await server.request('POST', `/webhooks/${stopped.delivery_id}/replay`)).status).toBe(200)
      await receiver.came(gone, 2)
      expect(await settled(run.run_id)).toMatchObject({ status: 'delivered', attempts: 1 })
    })

    test('deliveries of a temporary run can be listed when its thread is gone, and not by who could not see the thread', async () => {
      const path = place()
      const run = (await (await server.request('POST', '/runs', body(path))).json()) as { run_id: string }
      await only(path)
      expect(await settled(run.run_id)).toMatchObject({ status: 'delivered' })
      const threadId = await server.thread()
      const plain = await server.client.runs.create(threadId, 'steps', {})
      expect(await deliveries(plain.run_id)).toEqual([])
      for (const [method, unknown] of [
        ['GET', `/runs/${v7()}/webhooks`],
        ['POST', `/webhooks/${v7()}/replay`],
      ] as const)
        expect([unknown, (await server.request(method, unknown)).status]).toEqual([unknown, 404])
      expect((await server.request('GET', '/runs/x/webhooks')).status).toBe(422)
    })

    test.each([
      ['/relative', 'must be an absolute http or https URL: this server has no custom app (http.app) to call'],
      ['ftp://example.com', 'must begin with http:// or https://'],
      ['http://user:secret@example.com', 'must not hold a user or a password'],
      ['http://169.254.169.254/', 'must not be an address of a private network or of this machine'],
      ['', 'must not be empty'],
    ])('the webhook %j is refused before anything is made', async (webhook, why) => {
      const threadId = await server.thread()
      const asked = { assistant_id: 'steps', webhook }
      const refused = await server.request('POST', `/threads/${threadId}/runs`, asked)
      expect([refused.status, await refused.json()]).toEqual([
        422,
        { code: 'validation_failed', detail: expect.stringContaining(`body.webhook: ${why}`) },
      ])
      expect(await server.client.runs.list(threadId)).toEqual([])
      const batch = [{ assistant_id: 'steps', metadata: { batch: webhook } }, asked]
      expect((await server.request('POST', '/runs/batch', batch)).status).toBe(422)
      expect(await server.client.threads.search({ metadata: { batch: webhook } })).toEqual([])
    })
  },
  { config: { webhooks } },
)

eachRunServer(
  (server) => {
    test('with webhooks switched off, a run that names one is refused by name, and their routes are gone', async () => {
      const asked = { assistant_id: 'steps', webhook: 'https://example.com' }
      const refused = await server.request('POST', '/runs', asked)
      expect([refused.status, await refused.json()]).toEqual([
        422,
        {
          code: 'not_supported',
          detail: 'body.webhook: webhooks are switched off on this server: leave it out',
        },
      ])
      expect((await server.request('GET', `/runs/${v7()}/webhooks`)).status).toBe(404)
      expect((await server.request('POST', '/runs', { assistant_id: 'steps' })).status).toBe(200)
    })
  },
  { config: { disabled: ['webhooks'] }, only: ['embedded'] },
)
