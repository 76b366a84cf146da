// Webhooks when processes die: whatever was killed when, the end of a run is told, under one id, and truly.

import { Webhook } from 'standardwebhooks'
import { expect, test, vi } from 'vitest'
import { defaultServerConfig } from '../../src/config.ts'
import type { Delivery } from '../../src/contract/webhooks.ts'
import { type Received, type Receiver, startReceiver } from '../support/receiver.ts'
import type { TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'
import { createTroupe, NODES, type Troupe } from './rows/members.ts'
import { createStage, newThread } from './rows/stage.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000 })

const stage = createStage()
const SECRET = `whsec_${Buffer.alloc(32, 3).toString('base64')}`
const env = { HEDDLE_WEBHOOK_ALLOW_PRIVATE: 'true', HEDDLE_WEBHOOK_SECRET: SECRET }
const config = { webhooks: { ...defaultServerConfig.webhooks, allowPrivate: true, secrets: [SECRET] } }

const receive = async (): Promise<Receiver> => {
  const receiver = await startReceiver()
  stage.after(receiver.close)
  return receiver
}
/** Starts a run that waits at a gate in its first node, with a webhook. */
async function begin(api: TestServer, troupe: Troupe, receiver: Receiver) {
  const threadId = await newThread(api)
  const input = troupe.input({ one: 'gate' })
  const run = await api.client.runs.create(threadId, 'steps', { input, webhook: `${receiver.url}/done` })
  await troupe.began(run.run_id, 'one')
  return { ...run, thread_id: threadId }
}
const deliveryOf = async (api: TestServer, runId: string): Promise<Delivery | undefined> =>
  ((await (await api.request('GET', `/runs/${runId}/webhooks`)).json()) as Delivery[])[0]
const verified = ({ text, headers }: Received) => new Webhook(SECRET).verify(text, headers as Record<string, string>)

test('row 5: a worker killed right after a run has ended is not needed to tell its webhook', async () => {
  const [troupe, receiver] = [createTroupe(stage), await receive()]
  const api = await troupe.here('api', { config })
  const killed = await troupe.member('worker', { ...env, HEDDLE_FAILPOINTS: 'after_finalize_before_ack=kill9' })
  const run = await begin(api, troupe, receiver)
  troupe.open('gate')
  await killed.gone()
  expect(receiver.received).toEqual([])
  expect(await deliveryOf(api, run.run_id)).toMatchObject({ status: 'pending', attempts: 0 })
  await troupe.here('worker', { config })
  const [told] = await receiver.came('/done')
  expect(verified(told as Received)).toMatchObject({ run_id: run.run_id, status: 'success', values: { done: NODES } })
  await until('it is recorded', async () => (await deliveryOf(api, run.run_id))?.status === 'delivered')
  expect(receiver.received).toHaveLength(1)
})

test('row 17: a run that took its worker with it too often has its webhook told so', async () => {
  const [troupe, receiver] = [createTroupe(stage), await receive()]
  const api = await troupe.here('api', { config })
  const killed = await troupe.member('worker', env)
  const run = await begin(api, troupe, receiver)
  await killed.stop('SIGKILL')
  await troupe.here('worker', { config: { ...config, maxAttempts: 1 } })
  const [told] = await receiver.came('/done', 1, 30_000)
  expect(told?.body).toMatchObject({ run_id: run.run_id, status: 'error', error: { error: 'RunCrashed' } })
  expect(receiver.received).toHaveLength(1)
})

test('row 66: a worker killed between the answer to a webhook and its record is followed by one that tells it again, under the same id', async () => {
  const [troupe, receiver] = [createTroupe(stage), await receive()]
  const api = await troupe.here('api', { config })
  const killed = await troupe.member('worker', { ...env, HEDDLE_FAILPOINTS: 'after_webhook_post_before_mark=kill9' })
  const run = await begin(api, troupe, receiver)
  troupe.open('gate')
  await killed.gone()
  expect(receiver.received).toHaveLength(1)
  const claimed = await deliveryOf(api, run.run_id)
  expect(claimed).toMatchObject({ status: 'pending', attempts: 1, last_status: null })
  await troupe.here('worker', { config })
  // The rest of its lease.
  await stage.query('update webhook_deliveries set due_at = now()')
  const [first, second] = (await receiver.came('/done', 2)) as [Received, Received]
  expect(second.headers['webhook-id']).toBe(first.headers['webhook-id'])
  expect(first.headers['webhook-id']).toBe(claimed?.delivery_id)
  expect(Number(second.headers['webhook-timestamp'])).toBeGreaterThanOrEqual(Number(first.headers['webhook-timestamp']))
  expect(Date.parse(String(second.body.webhook_sent_at))).toBeGreaterThan(
    Date.parse(String(first.body.webhook_sent_at)),
  )
  const [one, other] = [verified(first), verified(second)].map((body) => ({ ...(body as object), webhook_sent_at: 0 }))
  expect(other).toEqual(one)
  await until('it is recorded', async () => (await deliveryOf(api, run.run_id))?.status === 'delivered')
  expect(receiver.received).toHaveLength(2)
})

test('row 68: a URL of the server itself is not called, neither as a path nor by its address', async () => {
  const [troupe, receiver] = [createTroupe(stage), await receive()]
  const api = await troupe.here('all')
  const { url } = await api.heddle.listen()
  const other = await newThread(api)
  for (const webhook of [`/threads/${other}/runs`, `${url}/threads/${other}/runs`, `${receiver.url}/x`]) {
    const asked = api.client.runs.create(await newThread(api), 'steps', { input: troupe.input(), webhook })
    await expect(asked).rejects.toThrow(/422.*body\.webhook: /)
  }
  expect(await api.client.runs.list(other)).toEqual([])
  expect(await stage.query('select 1 from webhook_deliveries')).toEqual([])
})
