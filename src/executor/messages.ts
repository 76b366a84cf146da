// The `messages` mode: token chunks added up per message. Knows nothing of frames or namespaces.

import type { BaseMessage, BaseMessageChunk } from '@langchain/core/messages'
import type { LangChain } from './langchain.ts'

/** Events for one streamed message or chunk: name and payload. */
export interface Messages {
  see(payload: [message: BaseMessage, metadata: Record<string, unknown>]): [name: string, payload: unknown][]
}

/** Adds chunks up: `messages/metadata` once for each message, then `messages/partial` for what is there so far, or
 *  `messages/complete` for what arrived whole. */
export function createMessages({ messages: { isBaseMessageChunk } }: Pick<LangChain, 'messages'>): Messages {
  const known = new Map<string, BaseMessage>()
  return {
    see: ([message, metadata]) => {
      const id = message.id
      if (id === undefined) return [['messages/complete', [message]]]
      const before = known.get(id)
      const isChunk = isBaseMessageChunk(message)
      const now =
        isChunk && before && isBaseMessageChunk(before)
          ? (before as BaseMessageChunk).concat(message as BaseMessageChunk)
          : message
      known.set(id, now)
      const events: [string, unknown][] = before ? [] : [['messages/metadata', { [id]: { metadata } }]]
      events.push([isChunk ? 'messages/partial' : 'messages/complete', [now]])
      return events
    },
  }
}
