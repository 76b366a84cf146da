// WebSockets on the Node server, with one side that misbehaves: who does not read is dropped, who is not there is noticed, and what
// arrives is heard in order.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { createSockets, type Socket, type SocketOptions } from '../../src/http/sockets.ts'

const opened: (() => void)[] = []
afterEach(() => {
  for (const close of opened.splice(0)) close()
})

/** A client's end and the server's. */
async function pair(options: Partial<SocketOptions> = {}): Promise<{ client: WebSocket; socket: Socket }> {
  const sockets = createSockets({ maxMessageBytes: 1024, ...options })
  let open: (socket: Socket) => void = () => {}
  const there = new Promise<Socket>((resolve) => {
    open = resolve
  })
  const server = createServer()
  server.on('upgrade', (request, socket, head) => sockets.accept(request, socket, head, async () => ({ open })))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
  opened.push(() => {
    client.terminate()
    sockets.close()
    server.close()
  })
  await new Promise((resolve) => client.once('open', resolve))
  return { client, socket: await there }
}
const gone = (socket: Socket) =>
  new Promise<void>((resolve) => {
    if (socket.signal.aborted) resolve()
    else socket.signal.addEventListener('abort', () => resolve())
  })

test('a reader that does not read is not given more, and is dropped', async () => {
  const { client, socket } = await pair({ unreadBytes: 1024 * 1024, stalledMs: 50 })
  client.pause()
  let room: Promise<void> | undefined
  while (room === undefined) room = socket.send('x'.repeat(256 * 1024))
  await gone(socket)
  await room
  expect(socket.send('more')).toBeUndefined()
})

test('a reader that is slow gets everything', async () => {
  const { client, socket } = await pair({ unreadBytes: 64 * 1024, stalledMs: 5_000 })
  let read = 0
  const all = new Promise<void>((resolve) => {
    client.on('message', (data: Buffer) => {
      read += data.length
      if (read === 64 * 100_000) resolve()
    })
  })
  for (let i = 0; i < 64; i++) {
    const room = socket.send('x'.repeat(100_000))
    if (room) await room
  }
  await all
  expect(socket.signal.aborted).toBe(false)
})

test('who does not answer a ping is dropped', async () => {
  const { client, socket } = await pair({ pingMs: 30 })
  client.pong = () => {}
  Object.assign(client, { _autoPong: false })
  await gone(socket)
})

test('texts are heard one after the other, and one that is too long ends the connection', async () => {
  const { client, socket } = await pair()
  const heard: string[] = []
  const done = new Promise<void>((resolve) => {
    socket.onText(async (text) => {
      await new Promise(setImmediate)
      heard.push(text)
      if (heard.length === 200) resolve()
    })
  })
  const sent = Array.from({ length: 200 }, (_, i) => `text ${i}`)
  for (const text of sent) client.send(text)
  await done
  expect(heard).toEqual(sent)
  const closed = new Promise<number>((resolve) => client.once('close', resolve))
  client.send('x'.repeat(2_000))
  expect(await closed).toBe(1009)
})

test('a reason longer than a close frame is cut between characters', async () => {
  const { client, socket } = await pair()
  const closed = new Promise<[number, string]>((resolve) =>
    client.once('close', (code, reason) => resolve([code, reason.toString()])),
  )
  socket.close(4404, 'ä'.repeat(100))
  expect(await closed).toEqual([4404, 'ä'.repeat(60)])
})
