// Makes vectors of texts with what the project names: a function of its own, or a model of a provider's package. In charge of
// loading it once, of batches, and of saying whose fault it is when it cannot; must never give a vector of another size.

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { resolve } from 'import-meta-resolve'
import { ApiError, messageOf } from '../errors.ts'
import type { EmbedSource, HostCalls } from './protocol.ts'

/** What a project may name: LangChain's embeddings, or a function from texts to vectors. */
interface Embedder {
  documents(texts: string[]): Promise<unknown>
  query(text: string): Promise<unknown>
}

export interface EmbedOptions {
  importFile(path: string): Promise<Record<string, unknown>>
  /** What the source's `value` was, where the executor shares the process with whoever made it. */
  value?: unknown
  /** How long one batch may take, in ms (60,000). */
  timeoutMs?: number
}

type Embed = (params: HostCalls['embed']['params'], projectDir: string | null) => Promise<HostCalls['embed']['value']>

/** Texts that one call of an embedder gets at most. */
const BATCH = 256

/** Makes the function that answers the call `embed`. Throws `ApiError` embedding_failed. */
export function createEmbed(options: EmbedOptions): Embed {
  const loaded = new Map<string, Promise<Embedder>>()
  return async ({ source, dims, documents, queries }, projectDir) => {
    const key = JSON.stringify([source, dims])
    const loading = loaded.get(key) ?? load(source, dims, projectDir, options)
    loaded.set(key, loading)
    const embedder = await loading.catch((error: unknown) => {
      // A file may be mended, a package installed.
      loaded.delete(key)
      throw error
    })
    const within = (work: () => Promise<unknown>) => limited(work, source.name, options.timeoutMs ?? 60_000)
    const vectors: unknown[] = []
    for (let at = 0; at < documents.length; at += BATCH) {
      const texts = documents.slice(at, at + BATCH)
      const batch = await within(() => embedder.documents(texts))
      if (!Array.isArray(batch) || batch.length !== texts.length)
        throw failed(
          source.name,
          `gave ${Array.isArray(batch) ? batch.length : 'no'} vectors for ${texts.length} texts`,
        )
      vectors.push(...batch)
    }
    vectors.push(...(await Promise.all(queries.map((text) => within(() => embedder.query(text))))))
    return { vectors: vectors.map((vector) => floats(vector, dims, source.name)) }
  }
}

const failed = (name: string, what: string): ApiError =>
  new ApiError('embedding_failed', `store.index.embed ${JSON.stringify(name)} ${what.replace(/\.$/, '')}.`)

async function limited(work: () => Promise<unknown>, name: string, ms: number): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(failed(name, `did not answer within ${ms / 1_000} s`)), ms)
  })
  try {
    return await Promise.race([work(), late])
  } catch (error) {
    throw error instanceof ApiError ? error : failed(name, `failed: ${messageOf(error)}`)
  } finally {
    clearTimeout(timer)
  }
}

function floats(vector: unknown, dims: number, name: string): Float32Array {
  if (!Array.isArray(vector) && !(vector instanceof Float32Array) && !(vector instanceof Float64Array))
    throw failed(name, 'gave something that is no list of numbers')
  if (vector.length !== dims)
    throw failed(name, `gives vectors of ${vector.length} numbers, and store.index.dims is ${dims}`)
  const made = Float32Array.from(vector as number[])
  if (!made.every(Number.isFinite)) throw failed(name, 'gave a vector with something in it that is no number')
  return made
}

async function load(
  source: EmbedSource,
  dims: number,
  projectDir: string | null,
  options: EmbedOptions,
): Promise<Embedder> {
  if (options.value !== undefined) return embedderOf(options.value, source.name)
  if (source.path === undefined) return provided(source.name, dims, projectDir)
  let module: Record<string, unknown>
  try {
    module = await options.importFile(source.path)
  } catch (error) {
    throw failed(source.name, `could not be loaded: ${messageOf(error)}`)
  }
  const name = source.export ?? 'default'
  const inner = module.default as Record<string, unknown> | undefined
  return embedderOf(module[name] ?? inner?.[name], source.name)
}

function embedderOf(value: unknown, name: string): Embedder {
  if (typeof value === 'function') {
    const embed = value as (texts: string[]) => Promise<unknown>
    return {
      documents: async (texts) => embed(texts),
      query: async (text) => {
        const vectors = await embed([text])
        return Array.isArray(vectors) ? vectors[0] : undefined
      },
    }
  }
  const given = value as { embedDocuments?: unknown; embedQuery?: unknown } | null | undefined
  if (typeof given?.embedDocuments === 'function' && typeof given.embedQuery === 'function') {
    const embeddings = given as { embedDocuments: Embedder['documents']; embedQuery: Embedder['query'] }
    return {
      documents: async (texts) => embeddings.embedDocuments(texts),
      query: async (text) => embeddings.embedQuery(text),
    }
  }
  throw failed(name, 'is neither a function from texts to vectors nor an instance of Embeddings')
}

// ------------------------------------------------------------------------------------------------ providers

/** Where LangChain has the embeddings of each provider, under the names that its model strings use. */
const providers: Readonly<Record<string, readonly [specifier: string, exported: string]>> = {
  openai: ['@langchain/openai', 'OpenAIEmbeddings'],
  azure_openai: ['@langchain/openai', 'AzureOpenAIEmbeddings'],
  bedrock: ['@langchain/aws', 'BedrockEmbeddings'],
  cloudflare: ['@langchain/cloudflare', 'CloudflareWorkersAIEmbeddings'],
  cohere: ['@langchain/cohere', 'CohereEmbeddings'],
  google_genai: ['@langchain/google-genai', 'GoogleGenerativeAIEmbeddings'],
  google_vertexai: ['@langchain/google-vertexai', 'VertexAIEmbeddings'],
  huggingface: ['@langchain/community/embeddings/hf', 'HuggingFaceInferenceEmbeddings'],
  mistralai: ['@langchain/mistralai', 'MistralAIEmbeddings'],
  nomic: ['@langchain/nomic', 'NomicEmbeddings'],
  ollama: ['@langchain/ollama', 'OllamaEmbeddings'],
}

async function provided(name: string, dims: number, projectDir: string | null): Promise<Embedder> {
  const colon = name.indexOf(':')
  const provider = name.slice(0, colon).replaceAll('-', '_')
  const model = name.slice(colon + 1)
  const known = Object.hasOwn(providers, provider) ? providers[provider] : undefined
  if (!known)
    throw failed(
      name,
      `names no known provider: use one of ${Object.keys(providers).join(', ')}, or "./file.ts:function"`,
    )
  const [specifier, exported] = known
  const Embeddings = (await importOf(specifier, name, projectDir))[exported]
  if (typeof Embeddings !== 'function') throw failed(name, `needs a version of ${specifier} that has ${exported}`)
  // These models give as many numbers as they are asked for.
  const size = specifier === '@langchain/openai' && model.startsWith('text-embedding-3') ? { dimensions: dims } : {}
  try {
    return embedderOf(Reflect.construct(Embeddings, [{ model, ...size }]), name)
  } catch (error) {
    throw error instanceof ApiError ? error : failed(name, `could not be set up: ${messageOf(error)}`)
  }
}

async function importOf(specifier: string, name: string, projectDir: string | null): Promise<Record<string, unknown>> {
  const from = pathToFileURL(join(projectDir ?? '.', 'langgraph.json')).href
  let url: string
  try {
    url = resolve(specifier, from)
  } catch {
    const installed = specifier.split('/').slice(0, 2).join('/')
    throw failed(
      name,
      `needs the package ${installed}, which the project does not have: run "npm install ${installed}" there`,
    )
  }
  try {
    return (await import(url)) as Record<string, unknown>
  } catch (error) {
    throw failed(name, `needs ${specifier}, which could not be loaded: ${messageOf(error)}`)
  }
}
