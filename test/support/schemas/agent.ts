// An agent as `createAgent` makes it, with a tool, state of its own and a context.

import { FakeListChatModel } from '@langchain/core/utils/testing'
import { createAgent, tool } from 'langchain'
import { z } from 'zod'

const search = tool(() => 'nothing', { name: 'search', description: 'Searches.', schema: z.object({ q: z.string() }) })

export const agent = createAgent({
  model: new FakeListChatModel({ responses: ['hi'] }),
  tools: [search],
  stateSchema: z.object({ visits: z.number().optional() }),
  contextSchema: z.object({ tenant: z.string() }),
})
