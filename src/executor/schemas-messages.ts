// What a message and a list of messages look like to a client that builds a form: one schema, wherever the messages came
// from (a message channel, a zod schema, a TypeScript type). `langgraph_type` is how Studio knows a chat.

type JsonSchema = Record<string, unknown>

/** One message, as it is sent and as it may be given. */
export const MESSAGE_SCHEMA: JsonSchema = {
  title: 'BaseMessage',
  type: 'object',
  properties: {
    type: { type: 'string', enum: ['human', 'ai', 'system', 'tool', 'function', 'generic', 'remove'] },
    content: { anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'object' } }] },
    id: { type: 'string' },
    name: { type: 'string' },
    additional_kwargs: { type: 'object' },
    response_metadata: { type: 'object' },
    tool_calls: { type: 'array', items: { type: 'object' } },
    tool_call_id: { type: 'string' },
    status: { type: 'string', enum: ['success', 'error'] },
    artifact: {},
  },
  required: ['content'],
}

/** A channel of messages. */
export const MESSAGES_SCHEMA: JsonSchema = { type: 'array', items: MESSAGE_SCHEMA, langgraph_type: 'messages' }
