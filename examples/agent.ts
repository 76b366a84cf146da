// A chat agent with tools. Ask it for the weather in a city, the time, or a sum.
//
//   curl -s http://127.0.0.1:8123/runs/wait -H 'content-type: application/json' \
//     -d '{"assistant_id":"agent","input":{"messages":[{"role":"user","content":"What is the weather in Oslo?"}]}}'

import { createAgent, tool } from 'langchain'
import { z } from 'zod'
import { chooseModel, lastWords, type Script } from './model.ts'

const weather = tool(
  ({ city }) => {
    // Made up, but always the same for a city.
    const degrees = [...city].reduce((sum, letter) => sum + (letter.codePointAt(0) ?? 0), 0) % 30
    return `${degrees} °C and ${degrees > 15 ? 'sunny' : 'cloudy'} in ${city}`
  },
  { name: 'weather', description: 'The weather in a city now.', schema: z.object({ city: z.string() }) },
)

const time = tool(() => new Date().toISOString(), {
  name: 'time',
  description: 'The time now, in UTC.',
  schema: z.object({}),
})

const calculator = tool(({ a, operator, b }) => String({ '+': a + b, '-': a - b, '*': a * b, '/': a / b }[operator]), {
  name: 'calculator',
  description: 'Works out a sum of two numbers.',
  schema: z.object({ a: z.number(), operator: z.enum(['+', '-', '*', '/']), b: z.number() }),
})

// What the model says when there is no key for a real one.
const script: Script = (messages) => {
  const last = messages.at(-1)
  if (last?.type === 'tool') return `Here is what I found: ${last.text}.`
  const words = lastWords(messages)
  const city = /weather (?:in|for|at) ([\p{L} ]+)/iu.exec(words)?.[1]
  if (city) return { tool: 'weather', args: { city: city.trim() } }
  const sum = /(-?\d+(?:\.\d+)?)\s*([-+*/])\s*(-?\d+(?:\.\d+)?)/.exec(words)
  if (sum) return { tool: 'calculator', args: { a: Number(sum[1]), operator: sum[2], b: Number(sum[3]) } }
  if (/\btime\b/i.test(words)) return { tool: 'time', args: {} }
  return `You said: "${words}". I am a scripted agent, so I know little; ask me for the weather in Oslo, the time, or 6 * 7.`
}

// No checkpointer here: the server keeps the threads.
export const graph = createAgent({
  model: await chooseModel(script),
  tools: [weather, time, calculator],
  systemPrompt: 'You are a friendly assistant. Use your tools when they help.',
})
