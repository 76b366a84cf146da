// The thread protocol as tests speak it: events over both transports in one form. In charge of failing on frames that are not
// what the protocol says; never fills anything in.

import { WebSocket } from 'ws'
import { readEvents } from './events.ts'

/** An event of the protocol, as it was sent. */
export interface ThreadEvent {
  type: 'event'
  event_id: string
  seq: number
  method: string
  // biome-ignore lint/suspicious/noExplicitAny: payloads of every kind, compared whole
  params: { namespace: string[]; timestamp: number; node?: string; data: any }
}

/** Everything there is to subscribe to. */
export const ALL_CHANNELS = [
  'values',
  'updates',
  'messages',
  'tools',
  'lifecycle',
  'input',
  'checkpoints',
  'tasks',
  'custom',
] as const

/** Events that are read bit by bit. */
export interface ThreadReader {
  next(): Promise<ThreadEvent | undefined>
  /** Every event up to the first that fits, with it; fails when the stream ends before. */
  upTo(fits: (event: ThreadEvent) => boolean): Promise<ThreadEvent[]>
  leave(): Promise<void>
}

/** True for the last event of a run. */
export const isEnd = ({ method, params }: ThreadEvent): boolean =>
  method === 'lifecycle' && params.namespace.length === 0 && params.data.event !== 'running'

/** Reads an answer of POST stream/events. */
export function readThreadEvents(response: Response): ThreadReader {
  const reader = readEvents(response)
  const checked = (seen: Awaited<ReturnType<typeof reader.next>>): ThreadEvent | undefined => {
    if (seen === undefined) return undefined
    const event = seen.data as ThreadEvent
    if (seen.id !== event.event_id || seen.event !== event.method)
      throw new Error(`a frame that says two things: ${JSON.stringify(seen)}`)
    return event
  }
  const next = async () => checked(await reader.next())
  return { next, upTo: upToWith(next), leave: () => reader.leave() }
}

function upToWith(next: () => Promise<ThreadEvent | undefined>): ThreadReader['upTo'] {
  return async (fits) => {
    const seen: ThreadEvent[] = []
    for (;;) {
      const event = await next()
      if (event === undefined) throw new Error(`the stream ended after ${JSON.stringify(seen)}`)
      seen.push(event)
      if (fits(event)) return seen
    }
  }
}

/** A command's answer. */
export interface Answer {
  type: 'success' | 'error'
  id: number | null
  result?: Record<string, unknown>
  error?: string
  message?: string
}

export interface ThreadSocket extends ThreadReader {
  /** Every frame as it came: events and answers. */
  readonly frames: readonly (ThreadEvent | Answer)[]
  /** Sends a command; gives its answer. */
  send(method: string, params: unknown): Promise<Answer>
  sendText(text: string): void
  /** The answer to what has no id. */
  answer(): Promise<Answer>
  /** How the connection was closed. */
  readonly closed: Promise<{ code: number; reason: string }>
}

/** Opens a WebSocket on a thread. */
export async function openThreadSocket(url: string, threadId: string): Promise<ThreadSocket> {
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/threads/${threadId}/stream/events`)
  const frames: (ThreadEvent | Answer)[] = []
  let read = 0
  let wake: () => void = () => {}
  let isClosed = false
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.on('close', (code, reason) => {
      isClosed = true
      wake()
      resolve({ code, reason: reason.toString() })
    })
  })
  socket.on('message', (data: Buffer) => {
    frames.push(JSON.parse(data.toString()) as ThreadEvent)
    wake()
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('open', () => resolve())
    socket.once('error', reject)
  })
  const news = () =>
    new Promise<void>((resolve) => {
      const before = wake
      wake = () => {
        before()
        resolve()
      }
    })
  const isAnswer = (frame: ThreadEvent | Answer): frame is Answer => frame.type !== 'event'
  const answerTo = async (id: number | null): Promise<Answer> => {
    for (;;) {
      const found = frames.filter(isAnswer).find((frame) => frame.id === id)
      if (found) return found
      if (isClosed) throw new Error(`closed before the answer to ${id}`)
      await news()
    }
  }
  let commands = 0
  const next = async (): Promise<ThreadEvent | undefined> => {
    for (;;) {
      const frame = frames[read]
      if (frame === undefined) {
        if (isClosed) return undefined
        await news()
        continue
      }
      read++
      if (!isAnswer(frame)) return frame
    }
  }
  return {
    frames,
    closed,
    next,
    upTo: upToWith(next),
    send: (method, params) => {
      const id = ++commands
      socket.send(JSON.stringify({ id, method, params }))
      return answerTo(id)
    },
    sendText: (text) => socket.send(text),
    answer: () => answerTo(null),
    leave: async () => {
      socket.close()
      await closed
    },
  }
}
