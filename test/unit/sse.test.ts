import { once } from 'node:events'
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { lateStream } from '../../src/http/late.ts'
import type { SseEvent } from '../../src/http/reply.ts'
import { eventStream, frame, writeEvents } from '../../src/http/sse.ts'
import { until } from '../support/until.ts'

const event = (id: number, size = 1): SseEvent => ({ id: String(id), event: 'values', data: `"${'x'.repeat(size)}"` })
const textOf = (value: Uint8Array | undefined) => Buffer.from(value ?? []).toString()

/** Events that a test sends one by one; knows whether its reader let go of it. */
function createSource() {
  const waiting: ((result: IteratorResult<SseEvent>) => void)[] = []
  const sent: SseEvent[] = []
  const source = {
    pulls: 0,
    returned: 0,
    send(...events: SseEvent[]) {
      for (const each of events) {
        const next = waiting.shift()
        if (next) next({ done: false, value: each })
        else sent.push(each)
      }
    },
    [Symbol.asyncIterator]: () => ({
      next: () => {
        source.pulls++
        const value = sent.shift()
        if (value) return Promise.resolve({ done: false as const, value })
        return new Promise<IteratorResult<SseEvent>>((resolve) => waiting.push(resolve))
      },
      return: () => {
        source.returned++
        return Promise.resolve({ done: true as const, value: undefined })
      },
    }),
  }
  return source
}

async function* generate(count: number, size: number, seen: { made: number; closed?: boolean }) {
  try {
    for (let i = 0; i < count; i++) {
      seen.made++
      yield event(i, size)
    }
  } finally {
    seen.closed = true
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
async function turns(count = 20) {
  for (let i = 0; i < count; i++) await turn()
}

describe('an event on the wire', () => {
  it('is id, name and data, each on one line', () => {
    expect(frame({ id: '7', event: 'values|a:1', data: '{"a":1}' })).toBe('id: 7\nevent: values|a:1\ndata: {"a":1}\n\n')
    expect(frame({ event: 'end', data: 'null' })).toBe('event: end\ndata: null\n\n')
  })

  it('cannot be split by its id or name', () => {
    expect(frame({ id: '1\nevent: end', event: 'a\r\ndata: x\0', data: 'null' })).toBe(
      'id: 1 event: end\nevent: a  data: x \ndata: null\n\n',
    )
  })

  it('keeps its data on one line for every reader, and the same JSON', () => {
    const value = { text: 'a\nb\u2028c\u2029d\u0085e' }
    const data = JSON.stringify(value, null, 2)
    const line = frame({ event: 'custom', data }).split('data: ')[1]?.trimEnd() ?? ''
    expect(line).not.toMatch(/[\n\r\u0085\u2028\u2029]/)
    expect(JSON.parse(line)).toEqual(value)
  })
})

describe('a stream of events', () => {
  it('sends the first event at once and joins those that follow in the same turn', async () => {
    const source = createSource()
    const reader = eventStream(source).getReader()
    source.send(...Array.from({ length: 500 }, (_, i) => event(i)))
    expect(textOf((await reader.read()).value)).toBe(frame(event(0)))
    const rest = Array.from({ length: 499 }, (_, i) => frame(event(i + 1))).join('')
    let chunks = 0
    for (let read = ''; read !== rest; chunks++) {
      read += textOf((await reader.read()).value)
      expect(rest.startsWith(read)).toBe(true)
    }
    expect(chunks).toBeLessThan(10)
    await reader.cancel()
  })

  it('ends when its source ends, with everything sent', async () => {
    const seen = { made: 0 }
    const text = await new Response(eventStream(generate(1000, 100, seen))).text()
    expect(text).toBe(Array.from({ length: 1000 }, (_, i) => frame(event(i, 100))).join(''))
  })

  it('asks its source for no more than may wait to be read', async () => {
    const seen = { made: 0 }
    const stream = eventStream(generate(1_000_000, 1000, seen), { unreadBytes: 100_000 })
    const reader = stream.getReader()
    await turns()
    const first = seen.made
    expect(first).toBeLessThan(400)
    await turns()
    expect(seen.made).toBe(first)
    for (let read = 0; read < 500_000; ) read += (await reader.read()).value?.length ?? 0
    await turns()
    expect(seen.made).toBeGreaterThan(first)
    expect(seen.made).toBeLessThan(first + 1500)
    await reader.cancel()
  })

  it('closes its source when the reader cancels', async () => {
    const seen: { made: number; closed?: boolean } = { made: 0 }
    let signal: AbortSignal | undefined
    const reader = eventStream((given) => {
      signal = given
      return generate(1_000_000, 10, seen)
    }).getReader()
    await reader.read()
    await reader.cancel()
    await turns(2)
    expect(seen.closed).toBe(true)
    expect(signal?.aborted).toBe(true)
  })

  it('closes a source that is waiting when the client has gone', async () => {
    const source = createSource()
    const client = new AbortController()
    const reader = eventStream(source, { signal: client.signal }).getReader()
    source.send(event(1))
    await reader.read()
    expect(source.returned).toBe(0)
    client.abort()
    expect(source.returned).toBe(1)
    expect((await reader.read()).done).toBe(true)
  })

  it('sends nothing to a client that has gone already', async () => {
    const source = createSource()
    const reader = eventStream(source, { signal: AbortSignal.abort() }).getReader()
    expect((await reader.read()).done).toBe(true)
    expect(source.returned).toBe(1)
  })

  it('lets a source close what it was given when the client has gone before it began', async () => {
    const said: string[] = []
    async function* source(signal: AbortSignal) {
      try {
        said.push(`began, aborted: ${signal.aborted}`)
        yield event(1)
        said.push('went on')
      } finally {
        said.push('closed')
      }
    }
    const reader = eventStream(source, { signal: AbortSignal.abort() }).getReader()
    expect((await reader.read()).done).toBe(true)
    await turns(2)
    expect(said).toEqual(['began, aborted: true', 'closed'])
  })

  it('breaks off when its source fails, and says why on this side only', async () => {
    const failure = new Error('the secret reason')
    const failed = vi.fn()
    const source = async function* () {
      yield event(1)
      throw failure
    }
    const reader = eventStream(source(), { failed }).getReader()
    expect(textOf((await reader.read()).value)).toBe(frame(event(1)))
    await expect(reader.read()).rejects.toThrow(/^The stream broke off\. Resume it with Last-Event-ID\.$/)
    expect(failed).toHaveBeenCalledExactlyOnceWith(failure)
  })
})

describe('events written to a response of Node', () => {
  /** What a client gets of what `write` does. */
  async function ask(write: (outgoing: ServerResponse) => void): Promise<IncomingMessage> {
    const server = createServer((_, outgoing) => write(outgoing)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const asked = get({ port: (server.address() as AddressInfo).port, agent: false })
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    server.close()
    return answer.on('error', () => {})
  }
  const whole = async (answer: IncomingMessage) => Buffer.concat(await answer.toArray()).toString()

  it('arrive whole and in order, however many wait, and the response ends with its source', async () => {
    const answer = await ask((outgoing) => writeEvents(generate(3_000, 1_000, { made: 0 }), outgoing.writeHead(200)))
    const text = await whole(answer)
    expect(text).toBe(Array.from({ length: 3_000 }, (_, i) => frame(event(i, 1_000))).join(''))
  })

  it('are asked for only as far as there is room, and again once they were read', async () => {
    const seen: { made: number; closed?: boolean } = { made: 0 }
    const answer = await ask((outgoing) =>
      writeEvents(generate(40_000, 1_000, seen), outgoing.writeHead(200), { unreadBytes: 100_000 }),
    )
    let before = -1
    await until('the source rests', async () => {
      await turns(200)
      const rests = seen.made === before
      before = seen.made
      return rests
    })
    expect(seen.made).toBeLessThan(40_000)
    expect((await whole(answer)).length).toBeGreaterThan(40_000_000)
    expect(seen.closed).toBe(true)
  })

  it('are dropped with a reader that reads nothing for too long', async () => {
    const seen: { made: number; closed?: boolean } = { made: 0 }
    const answer = await ask((outgoing) =>
      writeEvents(generate(1_000_000, 1_000, seen), outgoing.writeHead(200), { unreadBytes: 10_000, stalledMs: 50 }),
    )
    await until('the source is closed', () => seen.closed === true)
    await expect(whole(answer)).rejects.toThrow(/aborted/)
  })

  it('let go of a source that waits when the client goes, and break off where it fails', async () => {
    const source = createSource()
    const answer = await ask((outgoing) => {
      outgoing.writeHead(200).flushHeaders()
      writeEvents(source, outgoing)
    })
    answer.destroy()
    await until('the source is let go of', () => source.returned === 1)

    const failure = new Error('the secret reason')
    const failed = vi.fn()
    const failing = async function* () {
      yield event(1)
      throw failure
    }
    const broken = await ask((outgoing) => {
      outgoing.writeHead(200).flushHeaders()
      writeEvents(failing(), outgoing, { failed })
    })
    await expect(whole(broken)).rejects.toThrow(/aborted/)
    expect(failed).toHaveBeenCalledExactlyOnceWith(failure)
  })
})

describe('heartbeats', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('are comments after five seconds of silence', async () => {
    const source = createSource()
    const reader = eventStream(source).getReader()
    const first = reader.read()
    await vi.advanceTimersByTimeAsync(4999)
    source.send(event(1))
    expect(textOf((await first).value)).toBe(frame(event(1)))
    const second = reader.read()
    const arrived = vi.fn()
    void second.then(arrived)
    await vi.advanceTimersByTimeAsync(4990)
    expect(arrived).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(20)
    expect(textOf((await second).value)).toBe(': heartbeat\n\n')
    const third = reader.read()
    await vi.advanceTimersByTimeAsync(5000)
    expect(textOf((await third).value)).toBe(': heartbeat\n\n')
    await reader.cancel()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('do not pile up for a reader that does not read', async () => {
    const source = createSource()
    const stream = eventStream(source, { unreadBytes: 50 })
    source.send(event(1, 100))
    await vi.advanceTimersByTimeAsync(25_000)
    const reader = stream.getReader()
    expect(textOf((await reader.read()).value)).toBe(frame(event(1, 100)))
    const next = reader.read()
    source.send(event(2))
    await vi.advanceTimersByTimeAsync(1)
    expect(textOf((await next).value)).toBe(frame(event(2)))
    await reader.cancel()
  })

  it('leave no timer when a stream has ended', async () => {
    const reading = new Response(eventStream(generate(3, 1, { made: 0 }))).text()
    await vi.advanceTimersByTimeAsync(10)
    await reading
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('a reader that stops reading', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('is dropped when it leaves too much unread for too long', async () => {
    const seen: { made: number; closed?: boolean } = { made: 0 }
    const cut = vi.fn()
    eventStream(generate(1_000_000, 1000, seen), { unreadBytes: 10_000, stalledMs: 30_000, cut })
    await vi.advanceTimersByTimeAsync(29_000)
    expect(cut).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(2000)
    expect(cut).toHaveBeenCalledOnce()
    expect(seen.closed).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('is kept while it reads, however slowly', async () => {
    const seen: { made: number; closed?: boolean } = { made: 0 }
    const cut = vi.fn()
    const one = generate(1, 2_000_000, seen)
    const reader = eventStream(one, { unreadBytes: 100_000, stalledMs: 30_000, cut }).getReader()
    for (let read = 0; read < 2_000_000; ) {
      read += (await reader.read()).value?.length ?? 0
      await vi.advanceTimersByTimeAsync(20_000)
    }
    expect(cut).not.toHaveBeenCalled()
  })
})

describe('JSON that comes late', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('comes behind a newline for every five seconds', async () => {
    let resolve = (_text: string) => {}
    const promise = new Promise<string>((give) => {
      resolve = give
    })
    const reading = new Response(lateStream(() => promise)).text()
    await vi.advanceTimersByTimeAsync(11_000)
    resolve('{"a":1}')
    expect(await reading).toBe('\n\n{"a":1}')
    expect(vi.getTimerCount()).toBe(0)
  })

  it('is an error in JSON when the work fails, without what is not for the client', async () => {
    const failed = vi.fn()
    const of = (error: Error) => new Response(lateStream(() => Promise.reject(error), { failed })).json()
    expect(await of(new ApiError('run_not_found', 'No such run.'))).toEqual({
      __error__: { error: 'run_not_found', message: 'No such run.' },
    })
    expect(failed).not.toHaveBeenCalled()
    const secret = new Error('password=hunter2')
    expect(JSON.stringify(await of(secret))).not.toContain('hunter2')
    expect(failed).toHaveBeenCalledExactlyOnceWith(secret)
  })

  it('tells the work when the reader has gone', async () => {
    let signal: AbortSignal | undefined
    const work = (given: AbortSignal) => {
      signal = given
      return new Promise<string>(() => {})
    }
    await lateStream(work).cancel()
    expect(signal?.aborted).toBe(true)
    const client = new AbortController()
    const reader = lateStream(work, { signal: client.signal }).getReader()
    client.abort()
    expect(signal?.aborted).toBe(true)
    expect((await reader.read()).done).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
  })
})
