// Idempotency-Key: whoever asks twice with one key and body gets one run, whichever way it is asked for.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { readEvents } from '../support/events.ts'
import { eachRunServer } from './run-server.ts'

interface Made {
  run_id: string
  thread_id: string
}

eachRunServer((server) => {
  const post = (path: string, key: string, body: unknown) =>
    server.request('POST', path, body, { 'idempotency-key': key })
  const made = async (answer: Response): Promise<Made> => {
    expect(answer.status).toBe(200)
    return (await answer.json()) as Made
  }
  const body = { assistant_id: 'steps', input: { log: ['in'] } }
  const conflict = { code: 'idempotency_conflict', detail: expect.any(String) }

  test('the same key and body give the same run, another body is refused', async () => {
    const [threadId, key] = [await server.thread(), v7()]
    const path = `/threads/${threadId}/runs`
    const first = await made(await post(path, key, body))
    await server.client.runs.join(threadId, first.run_id)
    const second = await post(path, key, body)
    expect(second.headers.get('content-location')).toBe(`${path}/${first.run_id}`)
    expect(await made(second)).toMatchObject({ run_id: first.run_id, status: 'success' })
    const other = await post(path, key, { ...body, input: { log: ['other'] } })
    expect([other.status, await other.json()]).toEqual([422, conflict])
    expect(await server.client.runs.list(threadId)).toHaveLength(1)
    expect((await made(await post(path, v7(), body))).run_id).not.toBe(first.run_id)
  })

  test('a key belongs to one thread', async () => {
    const key = v7()
    await made(await post(`/threads/${await server.thread()}/runs`, key, body))
    const elsewhere = await post(`/threads/${await server.thread()}/runs`, key, body)
    expect([elsewhere.status, await elsewhere.json()]).toEqual([422, conflict])
  })

  test('20 at once make one run, and all are told of it', async () => {
    const [threadId, key] = [await server.thread(), v7()]
    const answers = await Promise.all(Array.from({ length: 20 }, () => post(`/threads/${threadId}/runs`, key, body)))
    const runs = await Promise.all(answers.map(made))
    expect(new Set(runs.map(({ run_id }) => run_id)).size).toBe(1)
    expect(await server.client.runs.list(threadId)).toHaveLength(1)
    await server.client.runs.join(threadId, runs[0]?.run_id as string)
    expect(server.ran.filter(({ run_id }) => run_id === runs[0]?.run_id)).toHaveLength(3)
  })

  test('a stream that is asked for again is the same stream, from its beginning', async () => {
    const [threadId, key] = [await server.thread(), v7()]
    const path = `/threads/${threadId}/runs/stream`
    const first = await readEvents(await post(path, key, body)).rest()
    const again = await post(path, key, body)
    expect(again.headers.get('content-location')).toContain(first[0]?.data.run_id)
    expect(await readEvents(again).rest()).toEqual(first)
    expect(await server.client.runs.list(threadId)).toHaveLength(1)
  })

  test('a wait that is asked for again is answered again, while it runs and after', async () => {
    const [threadId, key, gate] = [await server.thread(), v7(), v7()]
    const held = { assistant_id: 'steps', input: { log: ['in'], hold: { second: gate } } }
    const path = `/threads/${threadId}/runs/wait`
    const both = [post(path, key, held), post(path, key, held)]
    await server.gates.reached(gate)
    const during = await Promise.all([...both, post(path, key, held)])
    server.gates.open(gate)
    const values = { log: ['in', 'first', 'second', 'third'], hold: { second: gate } }
    for (const answer of [...during, await post(path, key, held)]) expect(await answer.json()).toEqual(values)
    expect(await server.client.runs.list(threadId)).toHaveLength(1)
  })

  test('stateless runs and batches have keys too', async () => {
    const key = v7()
    const kept = { ...body, on_completion: 'keep' }
    const first = await made(await post('/runs', key, kept))
    expect((await made(await post('/runs', key, kept))).run_id).toBe(first.run_id)
    expect((await post('/runs', key, { ...kept, metadata: { a: 1 } })).status).toBe(422)
    const batchKey = v7()
    const batch = async (items: unknown[]) => post('/runs/batch', batchKey, items)
    const runs = (await (await batch([kept, kept])).json()) as Made[]
    expect(new Set(runs.map(({ run_id }) => run_id)).size).toBe(2)
    expect(await (await batch([kept, kept])).json()).toMatchObject(runs.map(({ run_id }) => ({ run_id })))
    for (const other of [[kept], [kept, kept, kept], [kept, { ...kept, metadata: { a: 1 } }]]) {
      const before = server.server.seen.filter(({ kind }) => kind === 'run_created').length
      expect((await batch(other)).status).toBe(422)
      expect(server.server.seen.filter(({ kind }) => kind === 'run_created')).toHaveLength(before)
    }
    expect((await post('/runs', batchKey, kept)).status).toBe(422)
  })

  test('a request that failed has not used its key', async () => {
    const [threadId, key] = [v7(), v7()]
    const path = `/threads/${threadId}/runs`
    expect((await post(path, key, body)).status).toBe(404)
    await server.client.threads.create({ threadId })
    expect((await post(path, key, body)).status).toBe(200)
  })

  test('a key must be something that a header can carry', async () => {
    const path = `/threads/${await server.thread()}/runs`
    for (const key of ['', 'a b', 'x'.repeat(256)]) {
      const answer = await post(path, key, body)
      expect(answer.status, key).toBe(422)
      expect(await answer.json()).toMatchObject({ detail: expect.stringContaining('Idempotency-Key') })
    }
    expect((await post(path, 'x'.repeat(255), body)).status).toBe(200)
  })
})
