// What makes vectors, in both executors: functions and embeddings of the project's own files, models of providers' packages,
// and what is said of those that cannot.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createChildExecutor } from '../../src/executor/child-process.ts'
import type { Executor, Storage } from '../../src/executor/executor.ts'
import { createInlineExecutor } from '../../src/executor/inline.ts'
import type { EmbedSource } from '../../src/executor/protocol.ts'
import { readStoreSettings } from '../../src/graph/store-settings.ts'

const dir = mkdtempSync(join(tmpdir(), 'heddle-embed-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))
const file = (name: string, text: string) => {
  mkdirSync(dirname(join(dir, name)), { recursive: true })
  writeFileSync(join(dir, name), text)
}
file('package.json', '{"type": "module"}')
file(
  'embed.ts',
  `let calls: number = 0
  export async function embed(texts: string[]): Promise<number[][]> {
    calls++
    return texts.map((text) => [text.length, calls])
  }
  export const model = {
    embedDocuments: async (texts: string[]) => texts.map((text) => [text.length, 1]),
    embedQuery: async (text: string) => [text.length, 2],
  }
  export const broken = async () => { throw new Error('no key') }
  export const short = async () => [[1, 2]]
  export const text = async (texts: string[]) => texts.map(() => 'vector')
  export const holes = async (texts: string[]) => texts.map(() => [1, Number.NaN])
  export const number = 1`,
)
file('broken.ts', 'export const embed = (\n')
file(
  'node_modules/@langchain/openai/package.json',
  '{"name": "@langchain/openai", "type": "module", "main": "index.js"}',
)
file(
  'node_modules/@langchain/openai/index.js',
  `export class OpenAIEmbeddings {
    constructor(fields) { this.fields = fields }
    async embedDocuments(texts) { return texts.map(() => [this.fields.dimensions ?? 0, this.fields.model.length]) }
    async embedQuery() { return [0, 0] }
  }`,
)

const never = (): Promise<never> => Promise.reject(new Error('not asked for'))
const storage: Storage = { 'checkpoint.get': never, 'checkpoint.list': never, 'store.batch': never }

describe.each(['child', 'inline'] as const)('the %s executor', (mode) => {
  let executor: Executor
  beforeAll(async () => {
    const options = { graphs: [], projectDir: dir, storage, observe: () => {} }
    executor = mode === 'child' ? createChildExecutor({ ...options, env: process.env }) : createInlineExecutor(options)
    await executor.start()
  })
  afterAll(() => executor.close())

  const ask = async (embed: string, documents: string[], queries: string[] = [], dims = 2) => {
    const source = readStoreSettings({ index: { dims, embed } }, dir).index?.embed as EmbedSource
    const { vectors } = await executor.call('embed', { source, dims, documents, queries })
    return vectors.map((vector) => [...vector])
  }
  const refusal = async (embed: string, documents = ['a']) => {
    const error = await ask(embed, documents).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'embedding_failed' })
    return (error as Error).message.replace('store.index.embed ', '')
  }

  test('a function of a file gets the texts together, and is loaded once', async () => {
    expect(await ask('./embed.ts:embed', ['a', 'bb'])).toEqual([
      [1, 1],
      [2, 1],
    ])
    expect(await ask('./embed.ts:embed', ['ccc'], ['d'])).toEqual([
      [3, 2],
      [1, 3],
    ])
  })

  test('many texts come in batches, in their order', async () => {
    const texts = Array.from({ length: 600 }, (_, i) => 'x'.repeat(i % 7))
    const vectors = await ask('./embed.ts:embed', texts)
    expect(vectors.map(([length]) => length)).toEqual(texts.map(({ length }) => length))
    expect(new Set(vectors.map(([, call]) => call)).size).toBe(3)
  })

  test('embeddings as LangChain has them are asked for documents and for queries', async () => {
    expect(await ask('./embed.ts:model', ['a'], ['bb'])).toEqual([
      [1, 1],
      [2, 2],
    ])
  })

  test("a provider's model comes from the project's own package", async () => {
    expect(await ask('openai:text-embedding-3-small', ['a'])).toEqual([[2, 'text-embedding-3-small'.length]])
    expect(await ask('openai:older', ['a'])).toEqual([[0, 'older'.length]])
  })

  test('without texts it is only loaded', async () => {
    expect(await ask('./embed.ts:broken', [])).toEqual([])
  })

  test.each([
    ['./embed.ts:broken', /^".*" failed: no key\.$/],
    ['./embed.ts:short', /^".*" gave 1 vectors for 2 texts\.$/],
    ['./embed.ts:text', /gave something that is no list of numbers\.$/],
    ['./embed.ts:holes', /gave a vector with something in it that is no number\.$/],
    ['./embed.ts:number', /is neither a function from texts to vectors nor an instance of Embeddings\.$/],
    ['./embed.ts:missing', /is neither a function/],
    ['./broken.ts:embed', /could not be loaded: /],
    ['./missing.ts:embed', /could not be loaded: The file .*missing\.ts does not exist\.$/],
    [
      'cohere:embed',
      /needs the package @langchain\/cohere, which the project does not have: run "npm install @langchain\/cohere" there\.$/,
    ],
    ['nobody:model', /names no known provider: use one of openai, /],
  ])('%s is the answer itself', async (embed, sentence) => {
    expect(await refusal(embed, ['a', 'b'])).toMatch(sentence)
  })

  test('vectors of another size are refused', async () => {
    const error = await ask('./embed.ts:embed', ['a'], [], 3).catch((thrown: Error) => thrown)
    expect(error).toMatchObject({
      message: 'store.index.embed "./embed.ts:embed" gives vectors of 2 numbers, and store.index.dims is 3.',
    })
  })
})

test.each([
  [
    'a size of nothing',
    { dims: 0, embed: 'openai:x' },
    /^store\.index\.dims must be a whole number from 1 to 16000\.$/,
  ],
  ['a size that no vector has', { dims: 16_001, embed: 'openai:x' }, /^store\.index\.dims must be/],
  ['a Python function', { dims: 3, embed: './embed.py:embed' }, /must be "provider:model", or "\.\/file\.ts:function"/],
  ['neither a model nor a file', { dims: 3, embed: 'openai' }, /must be "provider:model"/],
  ['no fields', { dims: 3, embed: 'openai:x', fields: [] }, /^store\.index\.fields names no field/],
  [
    'a field that is no path',
    { dims: 3, embed: 'openai:x', fields: ['a['] },
    /^store\.index\.fields names "a\[", which is no path/,
  ],
])('%s is refused before anything starts', (_, index, sentence) => {
  expect(() => readStoreSettings({ index }, dir)).toThrow(sentence)
})
