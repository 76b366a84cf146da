import { expect, test } from 'vitest'
import { ConfigError, createHeddle, type HeddleOptions } from '../../src/index.ts'

test.each([
  [{}, 'createHeddle needs graphs'],
  [{ graphs: null }, 'createHeddle needs graphs'],
  [{ graphs: { agent: 5 } }, 'The graph "agent" must be a graph or "path:export", not "5".'],
  [{ graphs: { agent: undefined } }, 'The graph "agent" must be a graph or "path:export", not "undefined".'],
  [{ graphs: { agent: './agent.ts' } }, 'The graph "agent" must be a graph or "path:export", not "./agent.ts".'],
])('options that cannot work, like %o, are refused in a sentence', async (options, words) => {
  const made = createHeddle(options as unknown as HeddleOptions)
  await expect(made).rejects.toThrow(words)
  await expect(made).rejects.toThrow(ConfigError)
})
