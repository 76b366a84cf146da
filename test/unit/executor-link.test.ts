import { Duplex } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createFrameReader, createLinkPair, createStreamLink, MAX_FRAME } from '../../src/executor/link.ts'
import type { Frame } from '../../src/executor/protocol.ts'

/** Two streams, each of which reads what the other writes, in pieces of the given size. */
function pipes(piece = 1_000_000): [Duplex, Duplex] {
  const make = (other: () => Duplex): Duplex =>
    new Duplex({
      allowHalfOpen: false,
      read() {},
      write(chunk: Buffer, _, done) {
        for (let at = 0; at < chunk.length; at += piece) other().push(chunk.subarray(at, at + piece))
        done()
      },
      final(done) {
        other().push(null)
        done()
      },
    })
  const a: Duplex = make(() => b)
  const b: Duplex = make(() => a)
  return [a, b]
}

type Head = { type: string; n?: unknown }
const collect = (link: { onFrame(take: (frame: Frame<Head>) => void): void }) => {
  const seen: Frame<Head>[] = []
  link.onFrame((frame) => seen.push(frame))
  return seen
}
const closed = (link: { onClose(take: (error?: Error) => void): void }) =>
  new Promise<Error | undefined>((resolve) => link.onClose(resolve))

describe('a link over a stream', () => {
  it('carries heads and bodies in order, however the bytes are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.jsonValue(), fc.uint8Array({ maxLength: 200 })), { maxLength: 20 }),
        fc.integer({ min: 1, max: 50 }),
        async (frames, piece) => {
          const [a, b] = pipes(piece)
          const from = createStreamLink<Head, Head>(a)
          const to = createStreamLink<Head, Head>(b)
          const seen = collect(to)
          const end = closed(to)
          for (const [n, body] of frames) from.send({ type: 'x', n }, body)
          from.close()
          expect(await end).toBeUndefined()
          expect(seen.map(({ head, body }) => [head.n, [...(body ?? [])]])).toEqual(
            frames.map(([n, body]) => [JSON.parse(JSON.stringify(n)), [...body]]),
          )
        },
      ),
      { numRuns: 50 },
    )
  })

  it.each([
    ['a length beyond the limit', [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]],
    ['a length too small for a head', [0, 0, 0, 2, 0, 0]],
    ['a head longer than the frame', [0, 0, 0, 6, 0, 0, 0, 9, 0x7b, 0x7d]],
    ['a head that is not JSON', [0, 0, 0, 6, 0, 0, 0, 2, 0x7b, 0x7b]],
  ])('closes with an error on %s', async (_, bytes) => {
    const [a, b] = pipes()
    const link = createStreamLink<Head, Head>(b)
    const seen = collect(link)
    const end = closed(link)
    a.write(Buffer.from(bytes))
    expect(await end).toBeInstanceOf(Error)
    expect(seen).toEqual([])
  })

  it('refuses to send a frame beyond the limit', () => {
    const link = createStreamLink<Head, Head>(pipes()[0])
    expect(() => link.send({ type: 'x' }, { length: MAX_FRAME } as Uint8Array)).toThrow(/larger than/)
  })

  const counting = () => {
    const written: number[] = []
    const stream = new Duplex({
      read() {},
      write: (_chunk, _encoding, done) => done(),
      writev: (chunks, done) => {
        written.push(chunks.length)
        done()
      },
    })
    return { written, link: createStreamLink<Head, Head>(stream) }
  }
  const turn = () => new Promise((resolve) => setImmediate(resolve))

  it('sends the frames of one turn, and what is sent at its end, in one write', async () => {
    const { written, link } = counting()
    for (let n = 0; n < 10; n++) link.send({ type: 'x', n })
    await turn()
    link.send({ type: 'x', n: 10 })
    await turn()
    await turn()
    expect(written).toEqual([11])
  })

  it('sends at once what is flushed', () => {
    const { written, link } = counting()
    link.send({ type: 'x', n: 1 })
    link.send({ type: 'x', n: 2 })
    expect(written).toEqual([])
    link.flush()
    expect(written).toEqual([2])
  })
})

describe('the reader of frames', () => {
  it('holds no frame back when several arrive at once', () => {
    const seen: unknown[] = []
    const read = createFrameReader((head) => seen.push(head))
    const frame = (text: string) => {
      const buffer = Buffer.alloc(8 + text.length)
      buffer.writeUInt32BE(4 + text.length, 0)
      buffer.writeUInt32BE(text.length, 4)
      buffer.write(text, 8)
      return buffer
    }
    read(Buffer.concat([frame('1'), frame('2'), frame('3').subarray(0, 5)]))
    expect(seen).toEqual([1, 2])
    read(frame('3').subarray(5))
    expect(seen).toEqual([1, 2, 3])
  })
})

describe('an in-process pair of links', () => {
  it('carries copies of heads, in order and later', async () => {
    const [a, b] = createLinkPair<Head, Head>()
    const seen = collect(b)
    const head = { type: 'x', n: { deep: 1 } }
    const body = new Uint8Array([1])
    a.send(head, body)
    head.n.deep = 2
    a.send({ type: 'y' })
    expect(seen).toEqual([])
    await Promise.resolve()
    expect(seen).toEqual([
      { head: { type: 'x', n: { deep: 1 } }, body },
      { head: { type: 'y' }, body: undefined },
    ])
  })

  it('closes both ends after what was sent before', async () => {
    const [a, b] = createLinkPair<Head, Head>()
    const seen = collect(b)
    const ends = Promise.all([closed(a), closed(b)])
    a.send({ type: 'last' })
    a.close()
    await ends
    expect(seen.length).toBe(1)
    b.send({ type: 'nowhere' })
  })
})
