// Asks the types worker and remembers its answers: in memory, and on disk by the content of the files they depend on. In
// charge of the worker's life (started when needed, stopped when idle or stuck); never waits for the same answer twice.

import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { messageOf } from '../errors.ts'
import { hashOf } from './types-hash.ts'
import type { TypesAnswer, TypesQuestion } from './types-worker.ts'

export interface TypesOptions {
  /** A folder for answers that outlive the process; it is made when needed. */
  cacheDir?: string
  /** How long one graph may take, in ms (30,000). */
  timeoutMs?: number
}

type Known = Omit<TypesAnswer, 'id'>

export interface Types {
  /** The schemas of an exported graph from its types, or why there are none. Never rejects. */
  of(path: string, name: string): Promise<Known>
  close(): Promise<void>
}

// Answers of another version of this code are not read.
const FORMAT = 1
const IDLE_MS = 60_000

/** Makes the service. The compiler is loaded by the first question that no cache can answer. */
export function createTypes(options: TypesOptions = {}): Types {
  const worker = createTypesWorker(options.timeoutMs ?? 30_000)
  const remembered = new Map<string, Known>()
  const pending = new Map<string, Promise<Known>>()
  const fileOf = (key: string) => options.cacheDir && join(options.cacheDir, `types-${hashOf(`${FORMAT}:${key}`)}.json`)

  async function find(key: string, path: string, name: string): Promise<Known> {
    const known = remembered.get(key) ?? (await load(fileOf(key)))
    if (known && (await isCurrent(known))) {
      remembered.set(key, known)
      return known
    }
    const fresh = await worker.ask(path, name)
    // A failure is remembered for the file as it is, so that no request waits for it again.
    const answer = fresh.error === undefined ? fresh : { ...fresh, files: await hashes([path]) }
    remembered.set(key, answer)
    if (answer.error === undefined) await save(fileOf(key), answer)
    return answer
  }

  return {
    of(path, name) {
      const key = `${path}#${name}`
      const running = pending.get(key)
      if (running) return running
      const answer = find(key, path, name)
        .catch((error: unknown) => ({ error: messageOf(error) }))
        .finally(() => pending.delete(key))
      pending.set(key, answer)
      return answer
    },
    close: () => worker.stop(),
  }
}

async function load(file: string | undefined): Promise<Known | undefined> {
  try {
    return file ? (JSON.parse(await readFile(file, 'utf8')) as Known) : undefined
  } catch {
    return undefined
  }
}

// A cache that cannot be written costs time at the next start and nothing else.
async function save(file: string | undefined, answer: Known): Promise<void> {
  if (file === undefined) return
  const draft = `${file}.${process.pid}`
  await mkdir(join(file, '..'), { recursive: true })
    .then(() => writeFile(draft, JSON.stringify(answer)))
    .then(() => rename(draft, file))
    .catch(() => {})
}

async function hashes(paths: string[]): Promise<Record<string, string>> {
  const read = async (path: string) => hashOf(await readFile(path, 'utf8').catch(() => ''))
  return Object.fromEntries(await Promise.all(paths.map(async (path) => [path, await read(path)] as const)))
}

async function isCurrent({ files = {} }: Known): Promise<boolean> {
  const now = await hashes(Object.keys(files))
  return Object.entries(files).every(([path, hash]) => now[path] === hash)
}

interface TypesWorker {
  ask(path: string, name: string): Promise<Known>
  stop(): Promise<void>
}

function createTypesWorker(timeoutMs: number): TypesWorker {
  let worker: Worker | undefined
  let idle: NodeJS.Timeout | undefined
  let last = 0
  const waiting = new Map<number, (answer: Known) => void>()

  async function stop(reason = 'the types worker stopped'): Promise<void> {
    clearTimeout(idle)
    const stopping = worker
    worker = undefined
    for (const answer of waiting.values()) answer({ error: reason })
    waiting.clear()
    await stopping?.terminate()
  }

  function start(): Worker {
    const fresh = newWorker()
    fresh.on('message', ({ id, ...answer }: TypesAnswer) => waiting.get(id)?.(answer))
    fresh.on('error', (error) => worker === fresh && void stop(messageOf(error)))
    fresh.on('exit', () => worker === fresh && void stop())
    return fresh
  }

  return {
    ask(path, name) {
      clearTimeout(idle)
      worker ??= start()
      worker.ref()
      const id = ++last
      const question: TypesQuestion = { id, path, export: name }
      return new Promise<Known>((resolve) => {
        const timer = setTimeout(() => void stop(`the types were not known after ${timeoutMs} ms`), timeoutMs)
        waiting.set(id, (answer) => {
          clearTimeout(timer)
          waiting.delete(id)
          resolve(answer)
          if (waiting.size > 0) return
          worker?.unref()
          idle = setTimeout(() => void stop(), IDLE_MS).unref()
        })
        worker?.postMessage(question)
      })
    },
    stop: () => stop(),
  }
}

// From the sources (in tests) a worker needs a loader for TypeScript; as built it needs nothing.
function newWorker(): Worker {
  const limits = { resourceLimits: { maxOldGenerationSizeMb: 2_048 }, execArgv: [] }
  if (!import.meta.url.endsWith('.ts')) return new Worker(new URL('./types-worker.js', import.meta.url), limits)
  const loader = import.meta.resolve('tsx/esm/api')
  const entry = new URL('./types-worker.ts', import.meta.url).href
  const text = `import(${JSON.stringify(loader)}).then(({ register }) => { register(); return import(${JSON.stringify(entry)}) })`
  return new Worker(text, { ...limits, eval: true })
}
