// A human in the loop: the graph drafts a mail, stops at interrupt(), and goes on with what the human answers, be that a
// second or a month later. On a thread:
//
//   1. run it:     {"assistant_id": "approval", "input": {"request": "Tell Ada that the report is late"}}
//   2. it stops:   the result holds __interrupt__ with the draft
//   3. resume it:  {"assistant_id": "approval", "command": {"resume": {"decision": "approve"}}}

import { HumanMessage } from '@langchain/core/messages'
import { Command, END, type GraphNode, interrupt, START, StateGraph, StateSchema } from '@langchain/langgraph'
import { z } from 'zod'
import { chooseModel, lastWords } from './model.ts'

const State = new StateSchema({
  request: z.string(),
  draft: z.string().default(''),
  outcome: z.enum(['sent', 'discarded']).optional(),
})

/** What a human may answer. */
const Answer = z.discriminatedUnion('decision', [
  z.object({ decision: z.literal('approve') }),
  z.object({ decision: z.literal('edit'), text: z.string() }),
  z.object({ decision: z.literal('reject') }),
])

const model = await chooseModel((messages) => `Hello,\n\n${lastWords(messages).replace(/^.*?: /, '')}.\n\nKind regards`)

const write: GraphNode<typeof State> = async ({ request }) => {
  const mail = await model.invoke([new HumanMessage(`Write a short mail for this request: ${request}`)])
  return { draft: mail.text }
}

const review: GraphNode<typeof State, Record<string, unknown>, 'send' | 'discard'> = ({ draft }) => {
  // Everything above interrupt() runs again on resume, so it should have no effects.
  const answer = Answer.parse(
    interrupt({ question: 'Shall I send this mail?', draft, answers: ['approve', 'edit', 'reject'] }),
  )
  if (answer.decision === 'reject') return new Command({ goto: 'discard' })
  return new Command({ goto: 'send', update: answer.decision === 'edit' ? { draft: answer.text } : {} })
}

export const graph = new StateGraph(State)
  .addNode('write', write)
  .addNode('review', review, { ends: ['send', 'discard'] })
  .addNode('send', () => ({ outcome: 'sent' as const })) // A real one would call a mail service here.
  .addNode('discard', () => ({ outcome: 'discarded' as const }))
  .addEdge(START, 'write')
  .addEdge('write', 'review')
  .addEdge('send', END)
  .addEdge('discard', END)
  .compile()
