// Several agents: a lead hands work to a researcher and a writer, which are graphs of their own (subgraphs). Stream it with
// "stream_subgraphs": true to see what happens inside each of them.

import { AIMessage, HumanMessage, SystemMessage } from '@langchain/core/messages'
import { Command, END, type GraphNode, MessagesValue, START, StateGraph, StateSchema } from '@langchain/langgraph'
import { z } from 'zod'
import { chooseModel, lastWords } from './model.ts'

// Subgraphs share the keys of the state that they name too.
const State = new StateSchema({
  messages: MessagesValue,
  notes: z.array(z.string()).default(() => []),
})

const model = await chooseModel((messages) => {
  const task = messages[0]?.text ?? ''
  const words = lastWords(messages)
  if (task.includes('questions')) return `What is ${words}?\nWho needs ${words}?`
  if (task.includes('answer')) return `About "${words}": scripted models know nothing, but they say it at once.`
  return `A short report.\n${words}`
})

const ask = async (task: string, text: string): Promise<string> =>
  (await model.invoke([new SystemMessage(task), new HumanMessage(text)])).text

// The researcher: thinks of questions, then answers each of them.
const ResearchState = new StateSchema({ ...State.fields, questions: z.array(z.string()).default(() => []) })
const researcher = new StateGraph(ResearchState)
  .addNode('plan', async ({ messages }) => {
    const questions = await ask(
      'Write two questions, one a line, that a report on this must answer.',
      lastWords(messages),
    )
    return { questions: questions.split('\n').filter((line) => line.trim() !== '') }
  })
  .addNode('answer', async ({ questions }) => ({
    notes: await Promise.all(questions.map((question) => ask('Give a short answer to this.', question))),
  }))
  .addEdge(START, 'plan')
  .addEdge('plan', 'answer')
  .addEdge('answer', END)
  .compile()

// The writer: makes a report of the notes.
const writer = new StateGraph(State)
  .addNode('write', async ({ notes }) => {
    const report = await ask('Write a short report from these notes.', notes.join('\n'))
    return { messages: [new AIMessage({ content: report, name: 'writer' })], notes: [] }
  })
  .addEdge(START, 'write')
  .addEdge('write', END)
  .compile()

// The lead: decides who is next by what there is.
const lead: GraphNode<typeof State, Record<string, unknown>, 'researcher' | 'writer' | typeof END> = ({
  messages,
  notes,
}) => {
  if (notes.length > 0) return new Command({ goto: 'writer' })
  return new Command({ goto: messages.at(-1)?.type === 'human' ? 'researcher' : END })
}

export const graph = new StateGraph(State)
  .addNode('lead', lead, { ends: ['researcher', 'writer', END] })
  .addNode('researcher', researcher)
  .addNode('writer', writer)
  .addEdge(START, 'lead')
  .addEdge('researcher', 'lead')
  .addEdge('writer', 'lead')
  .compile()
