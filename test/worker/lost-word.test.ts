// What nobody tells: answers that are lost after the database did what was asked, processes that die or stop before they
// could say what they did. Every run ends, and everybody who follows or waits hears of an end that was one, and of no other.

import pg from 'pg'
import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { named } from '../api/run-server.ts'
import { readEvents } from '../support/events.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { eachStack, type Stack, type TestServer } from '../support/stacks.ts'

async function query(stack: Stack, text: string, values: unknown[]): Promise<Record<string, unknown>[]> {
  const settings = stack.database()
  if (!('uri' in settings)) throw new Error('this stack has no address')
  const client = new pg.Client({ connectionString: settings.uri })
  await client.connect()
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end()
  }
}

const threadOn = async (server: TestServer) => (await server.client.threads.create()).thread_id
const streamOn = async (server: TestServer, threadId: string, input: object) =>
  readEvents(await server.request('POST', `/threads/${threadId}/runs/stream`, { assistant_id: 'steps', input }))

eachStack(
  (stack) => {
    test('a run that a live worker holds without knowing, because the answer to its claim was lost, is run all the same', async () => {
      const { graphs, ran } = createRunGraphs()
      const server = await stack.heddle({ graphs, config: { leaseSeconds: 2 } })
      const threadId = await threadOn(server)
      const run = await server.client.runs.create(threadId, 'steps', { input: { log: ['in'] }, afterSeconds: 3600 })
      const claim = `with t as (update threads set held_by = $1, epoch = epoch + 1 where thread_id = $2)
        update runs set status = 'running', attempt = 1, available_at = now(), started_at = now(),
          worker_id = (select worker_id from workers order by lease_until desc limit 1) where run_id = $1`
      await query(stack, claim, [run.run_id, threadId])
      expect(await server.client.runs.join(threadId, run.run_id)).toEqual({ log: ['in', 'first', 'second', 'third'] })
      expect(ran.map(({ node }) => node)).toEqual(['first', 'second', 'third'])
      await server.close()
    })

    test('who follows or awaits a run that was cancelled before it began hears of it, even if nobody could say so', async () => {
      const { graphs } = createRunGraphs()
      const server = await stack.heddle({ graphs, role: 'api' })
      const threadId = await threadOn(server)
      const stream = await streamOn(server, threadId, {})
      const [run] = await server.client.runs.list(threadId)
      await query(stack, `update runs set status = 'interrupted', ended_at = now() where run_id = $1`, [run?.run_id])
      expect(named(await stream.rest())).toEqual([['end', null]])
      await server.close()
    })

    test('a server that hangs up on its clients because it closes cancels nothing for that', {
      timeout: 20_000,
    }, async () => {
      const { graphs, gates } = createRunGraphs()
      // Connections end after 5 s, before the run has to.
      const closing = await stack.heddle({ graphs, config: { shutdownGraceSeconds: 6 } })
      const { url } = await closing.heddle.listen()
      const threadId = await threadOn(closing)
      const gate = v7()
      const body = { assistant_id: 'steps', input: { hold: { first: gate } }, on_disconnect: 'cancel' }
      const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
      const stream = readEvents(await fetch(`${url}/threads/${threadId}/runs/stream`, init))
      const rest = stream.rest().catch(() => 'broke off')
      await gates.reached(gate)
      await closing.close()
      expect(await rest).toBe('broke off')
      expect(await query(stack, 'select status, cancel_reason from runs where thread_id = $1', [threadId])).toEqual([
        { status: 'pending', cancel_reason: null },
      ])
      await query(stack, 'delete from threads where thread_id = $1', [threadId])
    })

    test('a server that closes tells nobody that a run has ended which goes on elsewhere', async () => {
      const { graphs, gates } = createRunGraphs()
      const worker = await stack.heddle({ graphs, role: 'worker' })
      const api = await stack.heddle({ graphs, role: 'api', config: { shutdownGraceSeconds: 0.2 } })
      const threadId = await threadOn(api)
      const gate = v7()
      const stream = await streamOn(api, threadId, { log: ['in'], hold: { second: gate } })
      await gates.reached(gate)
      const [run] = await api.client.runs.list(threadId)
      const waited = api.request('GET', `/threads/${threadId}/runs/${run?.run_id}/join`).then((given) => given.text())
      const unanswered = expect(waited).rejects.toThrow('The server shuts down')
      const seen: string[] = []
      const broken = (async () => {
        for (let event = await stream.next(); event !== undefined; event = await stream.next()) seen.push(event.event)
        return 'came to its end'
      })().catch(() => 'broke off')
      // The join has to be waiting before the server closes.
      await new Promise((resolve) => setTimeout(resolve, 100))
      await api.close()
      expect(await broken).toBe('broke off')
      expect(seen).not.toContain('end')
      await unanswered
      const other = await stack.heddle({ graphs, role: 'api' })
      expect((await other.client.runs.get(threadId, String(run?.run_id))).status).toBe('running')
      gates.open(gate)
      expect(await other.client.runs.join(threadId, String(run?.run_id))).toMatchObject({ log: { length: 4 } })
      await Promise.all([worker.close(), other.close()])
    })
  },
  { only: ['postgres+redis', 'postgres'] },
)

eachStack((stack) => {
  test('deleting a thread ends the streams of its runs, and answers who waits for them', async () => {
    const { graphs, gates } = createRunGraphs()
    const server = await stack.heddle({ graphs })
    const threadId = await threadOn(server)
    const gate = v7()
    const running = await streamOn(server, threadId, { hold: { first: gate } })
    await gates.reached(gate)
    const waiting = await streamOn(server, threadId, {})
    const waited = server.request('POST', `/threads/${threadId}/runs/wait`, { assistant_id: 'steps', input: {} })
    const answer = (await waited).json()
    await server.client.threads.delete(threadId)
    expect(named(await running.rest()).at(-1)).toEqual(['end', null])
    expect(named(await waiting.rest())).toEqual([['end', null]])
    expect(await answer).toMatchObject({ __error__: { error: 'run_not_found' } })
    gates.open(gate)
    await server.close()
  })
})
