import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { Client } from '@langchain/langgraph-sdk'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { heddle, makeProject, type Running } from '../support/cli.ts'
import { readEvents, type SeenEvent } from '../support/events.ts'
import { until } from '../support/until.ts'

// A reader is taken for stalled after half a minute.
vi.setConfig({ testTimeout: 120_000 })

const graph = `
import { Annotation, StateGraph } from '@langchain/langgraph'
const turn = () => new Promise((resolve) => setImmediate(resolve))
export const flood = new StateGraph(Annotation.Root({ count: Annotation(), done: Annotation() }))
  .addNode('pour', async ({ count }, config) => {
    for (let i = 0; i < count; i++) {
      config.writer({ i, filler: 'x'.repeat(16_384) })
      if (i % 16 === 0) await turn()
    }
    return { done: true }
  })
  .addEdge('__start__', 'pour')
  .compile()
`
const COUNT = 1_600
const measurable = existsSync('/proc/self/status')
if (!measurable) console.warn('What readers cost the server is not tested: there is no /proc here to measure it with.')

describe.skipIf(!measurable)('readers cost the server little', () => {
  const project = makeProject({
    'graph.mjs': graph,
    'langgraph.json': JSON.stringify({ graphs: { flood: './graph.mjs:flood' } }),
  })
  const sockets: Socket[] = []
  let server: Running
  let url = ''
  let client: Client

  beforeAll(async () => {
    server = heddle(['dev', '--config', project.config, '--port', '0', '--no-reload'])
    url = (await server.shown(/^Heddle \S+ on (\S+)$/m))[1] as string
    client = new Client({ apiUrl: url, apiKey: null })
  })
  afterAll(async () => {
    for (const socket of sockets) socket.destroy()
    await server?.stop()
    project.remove()
  })

  const megabytes = () =>
    Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.process.pid}/status`, 'utf8'))?.[1]) / 1024
  const descriptors = () => readdirSync(`/proc/${server.process.pid}/fd`).length
  /** A connection that has asked for a path and reads nothing of the answer. */
  const ask = async (path: string): Promise<Socket> => {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port) }).on('error', () => {})
    sockets.push(socket)
    await once(socket, 'connect')
    socket.write(`GET ${path} HTTP/1.1\r\nHost: h\r\nLast-Event-ID: -1\r\n\r\n`)
    return socket
  }
  const pour = async () => {
    const { thread_id } = await client.threads.create()
    const payload = { input: { count: COUNT }, streamMode: 'custom' } as const
    return client.runs.create(thread_id, 'flood', payload)
  }
  const follow = async (path: string, after: string) =>
    readEvents(await fetch(`${url}${path}`, { headers: { 'last-event-id': after } })).rest()
  const numbers = (events: SeenEvent[]) =>
    events.flatMap(({ event, data }) => (event === 'custom' ? [data.i as number] : []))
  const all = Array.from({ length: COUNT }, (_, i) => i)

  test('those that do not read neither slow a run nor fill the memory, are hung up on, and can go on', async () => {
    const first = await pour()
    const started = performance.now()
    expect(numbers(await follow(`/threads/${first.thread_id}/runs/${first.run_id}/stream`, '-1'))).toEqual(all)
    const unhindered = performance.now() - started
    const [memory, files] = [megabytes(), descriptors()]

    const { thread_id, run_id } = await pour()
    const path = `/threads/${thread_id}/runs/${run_id}/stream`
    const asked = performance.now()
    const readers = await Promise.all(Array.from({ length: 20 }, () => ask(path)))
    let most = 0
    await until(
      'the run has ended',
      async () => {
        most = Math.max(most, megabytes())
        return (await client.runs.get(thread_id, run_id)).status === 'success'
      },
      60_000,
    )
    expect(performance.now() - asked).toBeLessThan(3 * unhindered + 5_000)
    await until('all have been hung up on', () => descriptors() <= files + 3, 60_000)
    most = Math.max(most, megabytes())
    expect(most - memory).toBeLessThan(100)

    const got = await received(readers[0] as Socket)
    expect(got.length).toBeLessThan(COUNT)
    const rest = await follow(path, got.at(-1)?.id as string)
    expect(numbers([...got, ...rest])).toEqual(all)
  })

  test('fifty that wait and then leave take everything with them', async () => {
    const { thread_id } = await client.threads.create()
    const [memory, files] = [megabytes(), descriptors()]
    for (let round = 0; round < 3; round++) {
      const waiting = await Promise.all(Array.from({ length: 50 }, () => ask(`/threads/${thread_id}/stream`)))
      await Promise.all(waiting.map((socket) => once(socket, 'readable')))
      expect(descriptors()).toBeGreaterThanOrEqual(files + 50)
      for (const socket of waiting) socket.destroy()
      await until('their connections are gone', () => descriptors() <= files + 3)
    }
    expect(megabytes() - memory).toBeLessThan(40)
    expect(await client.runs.wait(thread_id, 'flood', { input: { count: 1 } })).toMatchObject({ done: true })
  })
})

/** The whole events that are still in a socket's buffers, to its end. */
async function received(socket: Socket): Promise<SeenEvent[]> {
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  if (!socket.destroyed) await once(socket, 'close')
  // Without the head and the chunked encoding's sizes.
  const body = text.slice(text.indexOf('\r\n\r\n') + 4).replaceAll(/(?:^|\r\n)[\da-f]+\r\n/g, '')
  const whole = body.slice(0, body.lastIndexOf('\n\n') + 2)
  return readEvents(new Response(whole, { headers: { 'content-type': 'text/event-stream' } })).rest()
}
