// Graphs for the tests with stock clients. They need no key, say the same on every thread, and wait where a test says so: a
// story stops half way until a file exists.

import { existsSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { CallbackManagerForLLMRun } from '@langchain/core/callbacks/manager'
import { BaseChatModel } from '@langchain/core/language_models/chat_models'
import { AIMessage, AIMessageChunk, type BaseMessage } from '@langchain/core/messages'
import { ChatGenerationChunk, type ChatResult } from '@langchain/core/outputs'
import { END, interrupt, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'
import { createDeepAgent } from 'deepagents'
import { createAgent, tool } from 'langchain'
import { z } from 'zod'

const STORY = Array.from({ length: 24 }, (_, i) => `word${i} `)
const HALF = STORY.length / 2

/** Looks the weather up with a tool, and tells a story that waits in its middle for the file that was named. */
class Narrator extends BaseChatModel {
  _llmType() {
    return 'narrator'
  }
  override bindTools() {
    return this as never
  }
  async _generate(messages: BaseMessage[], options: this['ParsedCallOptions']): Promise<ChatResult> {
    let message = new AIMessageChunk('')
    for await (const chunk of speak(messages, options.signal)) message = message.concat(chunk)
    return { generations: [{ text: message.text, message }] }
  }
  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this['ParsedCallOptions'],
    manager?: CallbackManagerForLLMRun,
  ) {
    for await (const message of speak(messages, options.signal)) {
      const chunk = new ChatGenerationChunk({ message, text: message.text })
      yield chunk
      await manager?.handleLLMNewToken(message.text, undefined, undefined, undefined, undefined, { chunk })
    }
  }
}

async function* speak(messages: BaseMessage[], signal: AbortSignal | undefined): AsyncGenerator<AIMessageChunk> {
  const last = messages.at(-1)
  const asked = messages.findLast((message) => message.type === 'human')?.text ?? ''
  if (last?.type === 'tool' && last.name === 'task') yield new AIMessageChunk('The researcher has told it.')
  else if (last?.type === 'tool') {
    for (const word of ['It ', 'is ', `${last.text}.`]) yield new AIMessageChunk(word)
  } else if (asked.startsWith('weather ')) yield* call('weather', { city: asked.slice('weather '.length) })
  else if (asked.startsWith('delegate ')) {
    yield* call('task', { description: asked.slice('delegate '.length), subagent_type: 'researcher' })
  } else {
    for (const [i, word] of STORY.entries()) {
      if (i === HALF) await gate(asked.slice('story '.length), signal)
      yield new AIMessageChunk(word)
    }
  }
}

/** A tool call in two pieces, as models stream them. */
function* call(name: string, given: Record<string, string>): Generator<AIMessageChunk> {
  const args = JSON.stringify(given)
  const piece = { type: 'tool_call_chunk', index: 0 } as const
  yield new AIMessageChunk({
    content: '',
    tool_call_chunks: [{ ...piece, id: `call_${name}`, name, args: args.slice(0, 5) }],
  })
  yield new AIMessageChunk({ content: '', tool_call_chunks: [{ ...piece, args: args.slice(5) }] })
}

async function gate(file: string, signal: AbortSignal | undefined): Promise<void> {
  while (file !== '' && !existsSync(file)) {
    signal?.throwIfAborted()
    await delay(20)
  }
}

const weather = tool(
  ({ city }, runtime: { writer?: ((chunk: unknown) => void) | null }) => {
    runtime.writer?.({ name: 'progress', payload: { looked: city } })
    return `sunny in ${city}`
  },
  { name: 'weather', description: 'The weather in a city.', schema: z.object({ city: z.string() }) },
)

/** `weather CITY` and `story FILE`; a story without a file waits for nothing. */
export const agent = createAgent({ model: new Narrator({}), tools: [weather] })

const replies = (...texts: string[]) => ({ messages: texts.map((text) => new AIMessage(text)) })

/** Asks two people at once, then says what they said. */
export const approval = new StateGraph(MessagesAnnotation)
  .addNode('ask_ada', () => replies(`Ada: ${interrupt({ question: 'Ada?' })}`))
  .addNode('ask_bob', () => replies(`Bob: ${interrupt({ question: 'Bob?' })}`))
  .addNode('close', () => replies('closed'))
  .addEdge(START, 'ask_ada')
  .addEdge(START, 'ask_bob')
  .addEdge(['ask_ada', 'ask_bob'], 'close')
  .addEdge('close', END)
  .compile()

const writer = new StateGraph(MessagesAnnotation)
  .addNode('write', async ({ messages }, config) => ({ messages: [await new Narrator({}).invoke(messages, config)] }))
  .addEdge(START, 'write')
  .addEdge('write', END)
  .compile()

/** A graph within a graph, whose inner one tells the story. */
export const team = new StateGraph(MessagesAnnotation)
  .addNode('plan', () => replies('A plan.'))
  .addNode('writer', writer)
  .addEdge(START, 'plan')
  .addEdge('plan', 'writer')
  .addEdge('writer', END)
  .compile()

/** Hands `delegate WORDS` to an agent of its own, which tells the story. */
export const boss = createDeepAgent({
  model: new Narrator({}),
  subagents: [{ name: 'researcher', description: 'Tells stories.', systemPrompt: 'Tell the story.', tools: [] }],
})
