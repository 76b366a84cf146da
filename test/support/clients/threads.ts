// Thread streams of the stock JavaScript client, over either transport, and what tests compare of their events.

import { Client, type SubscriptionHandle, type ThreadStream } from '@langchain/langgraph-sdk'
import type { Event } from '@langchain/protocol'
import { WebSocket as NodeWebSocket } from 'ws'

export type Transport = 'sse' | 'websocket'

/** A client as a newcomer makes one. */
export const clientOf = (apiUrl: string): Client => new Client({ apiUrl, apiKey: null })

/** A thread stream with the client's own settings. Node has no WebSocket before release 22, so it is given one. */
export function openThread(
  apiUrl: string,
  options: { assistantId: string; transport: Transport; threadId?: string },
): ThreadStream {
  const { threadId, ...rest } = options
  const settings = { ...rest, webSocketFactory: (url: string) => new NodeWebSocket(url) as unknown as WebSocket }
  const { threads } = clientOf(apiUrl)
  return threadId === undefined ? threads.stream(settings) : threads.stream(threadId, settings)
}

/** Everything an iterable gives, each item as `look` sees it. */
export async function gather<T, R>(items: AsyncIterable<T>, look: (item: T) => R | Promise<R>): Promise<R[]> {
  const seen: Promise<R>[] = []
  // An item may be complete only after later ones came.
  for await (const item of items) seen.push(Promise.resolve(look(item)))
  return Promise.all(seen)
}

/** A message that a person sends. */
export const says = (content: string) => ({ messages: [{ type: 'human', content }] })

/** The events of a subscription up to the first that fits, with it. Goes on where the client pauses after a run. */
export async function upTo<T>(events: SubscriptionHandle<Event, T>, fits: (event: T) => boolean): Promise<T[]> {
  const seen: T[] = []
  const iterator = events[Symbol.asyncIterator]()
  for (;;) {
    const next = await iterator.next()
    if (!next.done) seen.push(next.value)
    else if (events.isPaused) await events.waitForResume()
    else throw new Error(`it ended after ${JSON.stringify(seen)}`)
    if (!next.done && fits(next.value)) return seen
  }
}

type Content = string | { text?: string }[]

/** The texts of a state's messages, as the wire has them. */
export const contents = (values: unknown): string[] =>
  (values as { messages: { content: Content }[] }).messages.map(({ content }) =>
    typeof content === 'string' ? content : content.map((block) => block.text ?? '').join(''),
  )

/** The texts of a state's messages, as the client makes objects of them. */
export const texts = (values: unknown): string[] =>
  (values as { messages: { text: string }[] }).messages.map(({ text }) => text)

/** The piece of text that a message's event adds. */
export const deltaOf = (data: unknown): string => (data as { delta?: { text?: string } }).delta?.text ?? ''
