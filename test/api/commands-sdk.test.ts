// Every command as the stock JavaScript client sends it and takes its answer, over both of its transports.

import { Client } from '@langchain/langgraph-sdk'
import { v7 } from 'uuid'
import { beforeAll, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { eachCommandServer } from './command-server.ts'

eachCommandServer((on) => {
  let client: Client
  beforeAll(async () => {
    const { url } = await on.server.heddle.listen()
    client = new Client({ apiUrl: url, apiKey: null, callerOptions: { maxRetries: 0 } })
  })
  const streams = (transport: 'sse' | 'websocket', assistantId: string) => {
    const threadId = v7()
    // Node 20 has no WebSocket of its own.
    const webSocketFactory = (address: string) => new WebSocket(address) as unknown as globalThis.WebSocket
    const thread = client.threads.stream(threadId, {
      assistantId,
      transport,
      ...(transport === 'websocket' && { webSocketFactory }),
    })
    return { threadId, thread }
  }
  /** The thread's values once the run that was just begun has come to its end. */
  const end = async (threadId: string) => {
    const [run] = await client.runs.list(threadId)
    await client.runs.join(threadId, run?.run_id ?? '')
    return (await client.threads.getState<{ log: string[] }>(threadId)).values
  }
  const code = (call: Promise<unknown>) =>
    call.then(
      () => 'done',
      (error: { name?: string; code?: string }) => [error.name, error.code],
    )

  for (const transport of ['sse', 'websocket'] as const) {
    test(`questions are answered, over ${transport}`, async () => {
      const { threadId, thread } = streams(transport, 'two')
      expect(await thread.run.start({ input: { log: [] } })).toEqual({ run_id: expect.any(String) })
      await end(threadId)
      const ids = await on.open(threadId)
      const one = (interrupt_id: string, response: string) => ({ namespace: [], interrupt_id, response })
      await thread.respondInput({ responses: ids.map((id) => one(id, 'yes')) }, { strictResume: true })
      expect((await end(threadId)).log).toEqual(['left: "yes"', 'right: "yes"', 'after'])
      expect(await code(thread.input.respond(one(ids[0] as string, 'again')))).toEqual([
        'ProtocolError',
        'no_such_interrupt',
      ])
      expect(thread.ordering.lastAppliedThroughSeq).toBeGreaterThan(0)
      await thread.close()
    })

    test(`a thread is looked at, and forked, over ${transport}`, async () => {
      const { threadId, thread } = streams(transport, 'steps')
      await thread.submitRun({ input: { log: ['a'] } })
      await end(threadId)
      expect((await thread.state.get({ namespace: [], keys: ['log'] })).values).toEqual({
        log: ['a', 'first', 'second', 'third'],
      })
      const { checkpoints } = await thread.state.listCheckpoints({ limit: 2 })
      expect(checkpoints.map(({ node_name }) => node_name)).toEqual(['third', 'second'])
      expect((await thread.agent.getTree()).tree).toMatchObject({ namespace: [], status: 'completed' })
      const second = checkpoints[1]?.id as string
      expect(await thread.state.fork({ checkpoint_id: second })).toEqual({
        run_id: expect.any(String),
        thread_id: threadId,
      })
      expect((await end(threadId)).log).toEqual(['a', 'first', 'second', 'third'])
      await thread.submitRun({ input: { log: ['b'] }, forkFrom: second, multitaskStrategy: 'reject' })
      expect((await end(threadId)).log.slice(0, 4)).toEqual(['a', 'first', 'second', 'b'])
      expect(await code(thread.state.fork({ checkpoint_id: v7() }))).toEqual(['ProtocolError', 'no_such_checkpoint'])
      await thread.close()
    })

    test(`a message is injected, over ${transport}`, async () => {
      const { threadId, thread } = streams(transport, 'chat')
      const inject = (content: string) => thread.input.inject({ namespace: [], message: { role: 'user', content } })
      expect(await code(inject('too early'))).toEqual(['ProtocolError', 'no_such_run'])
      await thread.submitRun({ input: { messages: [] } })
      await inject('hello')
      const { messages } = (await end(threadId)) as unknown as { messages: { content: string }[] }
      expect(messages.map(({ content }) => content)).toEqual(['seen 0', 'hello', 'seen 2'])
      await thread.close()
    })
  }
})
