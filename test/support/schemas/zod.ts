// A graph that knows its schemas at run time, some of which JSON cannot describe.

import type { BaseMessage } from '@langchain/core/messages'
import { MessagesZodMeta, START, StateGraph } from '@langchain/langgraph'
import { withLangGraph } from '@langchain/langgraph/zod'
import { z } from 'zod'

const State = z.object({
  messages: withLangGraph(z.custom<BaseMessage[]>(), MessagesZodMeta),
  topic: z.string().describe('What it is about.'),
  count: z.number().default(1),
  since: z.date().optional(),
})

const Input = State.pick({ messages: true, topic: true })

export const graph = new StateGraph({ state: State, input: Input, context: z.object({ user_id: z.string() }) })
  .addNode('work', () => ({ count: 2 }))
  .addEdge(START, 'work')
  .compile()
