// The chat model of the examples: a real one when its key is in the environment, else a scripted one that needs no key.

import type { CallbackManagerForLLMRun } from '@langchain/core/callbacks/manager'
import { BaseChatModel, type BaseChatModelCallOptions } from '@langchain/core/language_models/chat_models'
import { AIMessage, AIMessageChunk, type BaseMessage } from '@langchain/core/messages'
import { ChatGenerationChunk, type ChatResult } from '@langchain/core/outputs'

/** What the scripted model says to a conversation: words, or tools to call. */
export type Script = (messages: BaseMessage[]) => string | { tool: string; args: Record<string, unknown> }

const providers = [
  { key: 'OPENAI_API_KEY', model: 'openai:gpt-4.1-mini' },
  { key: 'ANTHROPIC_API_KEY', model: 'anthropic:claude-haiku-4-5' },
]

/** The model to use. `MODEL=provider:name` in the environment chooses another one of a provider that has a key. */
export async function chooseModel(script: Script): Promise<BaseChatModel> {
  const provider = providers.find(({ key }) => process.env[key])
  if (!provider) return new ScriptedModel(script)
  const { initChatModel } = await import('langchain')
  const name = process.env.MODEL ?? provider.model
  try {
    return (await initChatModel(name)) as unknown as BaseChatModel
  } catch (error) {
    const why = error instanceof Error ? error.message : error
    console.warn(`${provider.key} is set, but ${name} cannot be used, so the scripted model answers: ${why}`)
    return new ScriptedModel(script)
  }
}

/** A model that follows a script and streams it word by word, so that every way of streaming can be seen without a key. */
export class ScriptedModel extends BaseChatModel<BaseChatModelCallOptions, AIMessageChunk> {
  readonly script: Script
  readonly pauseMs: number

  constructor(script: Script, pauseMs = 15) {
    super({})
    this.script = script
    this.pauseMs = pauseMs
  }

  override _llmType(): string {
    return 'scripted'
  }

  // The script knows which tools there are.
  override bindTools(): this {
    return this
  }

  override async _generate(messages: BaseMessage[]): Promise<ChatResult> {
    const said = this.script(messages)
    const message =
      typeof said === 'string'
        ? new AIMessage(said)
        : new AIMessage({
            content: '',
            tool_calls: [{ id: callId(messages), name: said.tool, args: said.args, type: 'tool_call' }],
          })
    return { generations: [{ text: message.text, message }] }
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this['ParsedCallOptions'],
    run?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const said = this.script(messages)
    const pieces =
      typeof said === 'string'
        ? (said.match(/\S+\s*/g) ?? []).map((word) => new AIMessageChunk(word))
        : [
            new AIMessageChunk({
              content: '',
              tool_call_chunks: [
                {
                  id: callId(messages),
                  index: 0,
                  name: said.tool,
                  args: JSON.stringify(said.args),
                  type: 'tool_call_chunk',
                },
              ],
            }),
          ]
    for (const message of pieces) {
      await new Promise((resolve) => setTimeout(resolve, this.pauseMs))
      options.signal?.throwIfAborted()
      const chunk = new ChatGenerationChunk({ message, text: message.text })
      yield chunk
      await run?.handleLLMNewToken(message.text, undefined, undefined, undefined, undefined, { chunk })
    }
  }
}

const callId = (messages: BaseMessage[]): string => `call_${messages.length}`

/** The text of the last thing the user said. */
export const lastWords = (messages: BaseMessage[]): string =>
  messages.findLast((message) => message.type === 'human')?.text ?? ''
