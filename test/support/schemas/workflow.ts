// A graph of the functional API: only its types say what goes in and out.

import { entrypoint } from '@langchain/langgraph'

export const workflow = entrypoint('workflow', async (input: { topic: string }) => ({ words: input.topic.split(' ') }))
