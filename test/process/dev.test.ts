import { fileURLToPath } from 'node:url'
import { Client } from '@langchain/langgraph-sdk'
import { afterAll, expect, test, vi } from 'vitest'
import { heddle, holdPort, makeProject } from '../support/cli.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000 })

const examples = fileURLToPath(new URL('../../examples/langgraph.json', import.meta.url))
const data = makeProject({})
const server = heddle(['dev', '--config', examples, '--port', '0', '--no-reload', '--data-dir', `${data.dir}/data`])
const url = server.shown(/^Heddle \S+ on (\S+)$/m).then((match) => match[1] as string)
const client = url.then((apiUrl) => new Client({ apiUrl }))
afterAll(async () => {
  await server.stop()
  data.remove()
})

type Said = { messages: { type: string; content: string }[] }
const human = (content: string) => ({ messages: [{ role: 'user', content }] })
const lastOf = (values: unknown): string => (values as Said).messages.at(-1)?.content ?? ''

test('the first screen says address, graphs, database, bus and what to do next', async () => {
  const address = await url
  await server.shown(/ try .*\n/)
  expect(server.output()).toContain(`  graphs    agent, approval, team, memory\n`)
  expect(server.output()).toMatch(/ {2}database {2}embedded, .*\/data\n {2}bus {7}memory \(one process\)\n/)
  expect(server.output()).toContain(`  API docs  ${address}/docs\n`)
  const [, command = ''] = /^ {2}try {7}(curl .*)$/m.exec(server.output()) ?? []
  expect(command).toContain(`${address}/runs/wait`)
  const body = /-d '(.*)'$/.exec(command)?.[1] as string
  const answer = await fetch(`${address}/runs/wait`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  })
  expect(lastOf(await answer.json())).toContain('You said: "hello".')
})

test('the agent calls a tool and streams its answer word by word', async () => {
  const words: string[] = []
  const input = human('What is the weather in Oslo?')
  for await (const chunk of (await client).runs.stream(null, 'agent', { input, streamMode: 'messages-tuple' })) {
    if (chunk.event !== 'messages') continue
    const [message] = chunk.data as unknown as [{ type: string; content: string }]
    if (message.type.startsWith('AIMessage') && message.content !== '') words.push(message.content)
  }
  expect(words.join('')).toMatch(/^Here is what I found: \d+ °C and \w+ in Oslo\.$/)
  expect(words.length).toBeGreaterThan(8)
})

test('the approval stops for a human and goes on with the answer', async () => {
  const { runs, threads } = await client
  const { thread_id } = await threads.create()
  const stopped = (await runs.wait(thread_id, 'approval', { input: { request: 'Tell Ada that it is late' } })) as {
    __interrupt__: { value: { draft: string } }[]
  }
  expect(stopped.__interrupt__[0]?.value.draft).toContain('Tell Ada that it is late')
  expect((await threads.get(thread_id)).status).toBe('interrupted')
  const resume = { decision: 'edit', text: 'Late!' }
  expect(await runs.wait(thread_id, 'approval', { command: { resume } })).toMatchObject({
    draft: 'Late!',
    outcome: 'sent',
  })
  expect((await threads.get(thread_id)).status).toBe('idle')
})

test('the team shows what happens inside its subgraphs', async () => {
  const events = new Set<string>()
  for await (const { event } of (await client).runs.stream(null, 'team', {
    input: human('tea'),
    streamMode: 'updates',
    streamSubgraphs: true,
  })) {
    events.add(event.replace(/:[^|]*/g, ''))
  }
  expect([...events].sort()).toEqual(expect.arrayContaining(['updates', 'updates|researcher', 'updates|writer']))
})

test('the memory knows on one thread what it was told on another', async () => {
  const { runs } = await client
  const config = { configurable: { user: 'ada' } }
  await runs.wait(null, 'memory', { input: human('My name is Ada and I like tea'), config })
  const answer = await runs.wait(null, 'memory', { input: human('What do you know about me?'), config })
  expect(lastOf(answer)).toBe('This is what I know about you: likes: tea, name: Ada.')
})

test('a second process on the same data directory is refused', async () => {
  await url
  const second = await heddle(['dev', '--config', examples, '--port', '0', '--data-dir', `${data.dir}/data`]).ended
  expect(second.code).toBe(1)
  expect(second.stderr).toMatch(/^heddle: .*\/data.*\n$/)
})

test('a busy default port gives the next free one, said in the first line', async () => {
  // Whoever holds it, it is in use.
  const held = await holdPort(2024).catch(() => undefined)
  const moved = heddle(['dev', '--config', examples, '--no-reload', '--data-dir', `${data.dir}/moved`])
  const [, port] = await moved.shown(/^Heddle \S+ on http:\/\/127\.0\.0\.1:(\d+) \(port 2024 is in use\)$/m)
  expect(Number(port)).toBeGreaterThan(2024)
  expect(await (await fetch(`http://127.0.0.1:${port}/ok`)).json()).toEqual({ ok: true })
  const { code, stdout } = await moved.stop('SIGINT')
  expect(code).toBe(0)
  expect(stdout).toMatch(/^Heddle /)
  await held?.release()
})
