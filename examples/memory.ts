// Memory across threads: facts about a user go into the store, under the user's id, and every later thread knows them.
// Tell it "My name is Ada" on one thread and ask "What do you know about me?" on another; both runs name the user:
//
//   {"assistant_id": "memory", "config": {"configurable": {"user": "ada"}}, "input": {"messages": [...]}}

import { SystemMessage } from '@langchain/core/messages'
import {
  END,
  type GraphNode,
  type LangGraphRunnableConfig,
  MessagesValue,
  START,
  StateGraph,
  StateSchema,
} from '@langchain/langgraph'
import { chooseModel, lastWords } from './model.ts'

const State = new StateSchema({ messages: MessagesValue })

// What counts as a fact. A real agent would have a model find them.
const patterns: [key: string, RegExp][] = [
  ['name', /\bmy name is (.+?)(?= and |[,.;!?]|$)/i],
  ['home', /\bI live in (.+?)(?= and |[,.;!?]|$)/i],
  ['likes', /\bI (?:like|love) (.+?)(?= and |[,.;!?]|$)/i],
]

const namespace = (config: LangGraphRunnableConfig): string[] => [
  'facts',
  String(config.configurable?.user ?? 'someone'),
]

const remember: GraphNode<typeof State> = async ({ messages }, config) => {
  const words = lastWords(messages)
  for (const [key, pattern] of patterns) {
    const value = pattern.exec(words)?.[1]?.trim()
    // The server gives every graph its store.
    if (value) await config.store?.put(namespace(config), key, { value })
  }
  return {}
}

const model = await chooseModel((messages) => {
  const known = messages[0]?.text.split('\n').slice(1) ?? []
  return known.length > 0
    ? `This is what I know about you: ${known.join(', ')}.`
    : 'I know nothing about you yet. Try: My name is Ada.'
})

const answer: GraphNode<typeof State> = async ({ messages }, config) => {
  const facts = (await config.store?.search(namespace(config))) ?? []
  const known = facts.map(({ key, value }) => `${key}: ${value.value}`).sort()
  const system = new SystemMessage(['You are talking to someone of whom you know:', ...known].join('\n'))
  return { messages: [await model.invoke([system, ...messages])] }
}

export const graph = new StateGraph(State)
  .addNode('remember', remember)
  .addNode('answer', answer)
  .addEdge(START, 'remember')
  .addEdge('remember', 'answer')
  .addEdge('answer', END)
  .compile()
