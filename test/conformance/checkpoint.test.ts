// The public suite for LangGraph checkpointers, against Heddle's saver over each storage it stands on.

import type { BaseCheckpointSaver } from '@langchain/langgraph-checkpoint'
import { deltaChannelHistoryTests, specTest } from '@langchain/langgraph-checkpoint-validation'
import { v5 } from 'uuid'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import * as checkpoints from '../../src/db/checkpoints.ts'
import type { Database } from '../../src/db/db.ts'
import { sql } from '../../src/db/sql.ts'
import { createCodec } from '../../src/executor/codec.ts'
import { createLangChainLoader } from '../../src/executor/langchain.ts'
import { type CheckpointSink, createSaver } from '../../src/executor/saver.ts'
import { createStorage } from '../../src/graph/storage.ts'
import { kinds, openEmpty } from '../support/databases.ts'
import { createMemoryStorage } from '../support/memory-storage.ts'

// The suite was written for a runner that has these as globals.
Object.assign(globalThis, { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it })

type Backing = Pick<Parameters<typeof createSaver>[0], 'storage' | 'sink'>

/** The saver, for a suite that uses any text as thread id and lists all threads: a graph may do neither. */
async function saverOver(backing: Backing): Promise<BaseCheckpointSaver> {
  const langchain = await createLangChainLoader()()
  const { checkpointer } = createSaver({ langchain, codec: createCodec(langchain), ...backing })
  const threads = new Set<string>()
  const { list, put } = checkpointer
  checkpointer.put = (config, ...rest) => {
    threads.add(String(config.configurable?.thread_id))
    return put.call(checkpointer, config, ...rest)
  }
  checkpointer.list = async function* (config, options) {
    if (config.configurable?.thread_id !== undefined) return yield* list.call(checkpointer, config, options)
    const found = []
    for (const thread_id of threads) {
      const one = { ...config, configurable: { ...config.configurable, thread_id } }
      for await (const tuple of list.call(checkpointer, one, options)) found.push(tuple)
    }
    found.sort((a, b) => (a.checkpoint.id < b.checkpoint.id ? 1 : -1))
    yield* found.slice(0, options?.limit)
  }
  return checkpointer as unknown as BaseCheckpointSaver
}

const inMemory = (): Backing => {
  const memory = createMemoryStorage()
  return { storage: memory.storage, sink: { ...memory, settled: () => Promise.resolve() } }
}

/** Thread ids are uuids here: others are turned into some, and back. */
function inDatabase(db: Database): Backing {
  const names = new Map<string, string>()
  const idOf = (thread: string) => {
    const id = v5(thread, v5.URL)
    names.set(id, thread)
    return id
  }
  const named = <T extends { thread_id: string }>(row: T): T => ({ ...row, thread_id: names.get(row.thread_id) ?? '' })
  const storage = createStorage({ db, store: { batch: async () => [] }, flushed: () => Promise.resolve() })
  const store = async (what: Parameters<typeof checkpoints.store>[1], thread: string) => {
    await db.rows(sql`insert into threads (thread_id, metadata) values (${idOf(thread)}, '{}') on conflict do nothing`)
    await checkpoints.store(db, what)
  }
  const sink: CheckpointSink = {
    put: (put) =>
      store({ puts: [{ ...put, thread_id: idOf(put.thread_id) }], writes: [], run_id: null }, put.thread_id),
    writes: (put) =>
      store({ puts: [], writes: [{ ...put, thread_id: idOf(put.thread_id) }], run_id: null }, put.thread_id),
    settled: () => Promise.resolve(),
    deleteThread: async (thread) => void (await checkpoints.removeOfThread(db, idOf(thread))),
  }
  return {
    sink,
    storage: {
      'checkpoint.get': async (which) => {
        const found = await storage['checkpoint.get']({ ...which, thread_id: idOf(which.thread_id) })
        return found && named(found)
      },
      'checkpoint.list': async (which) =>
        (await storage['checkpoint.list']({ ...which, thread_id: idOf(which.thread_id) })).map(named),
    },
  }
}

const opened: Record<string, Database> = {}
afterAll(async () => {
  for (const db of Object.values(opened)) await db.close()
})

for (const name of ['memory', ...kinds] as const) {
  const initializer = {
    checkpointerName: `Heddle's saver over ${name}`,
    beforeAllTimeout: 60_000,
    beforeAll: async () => {
      if (name !== 'memory') opened[name] ??= await openEmpty(name)
    },
    createCheckpointer: () => saverOver(name === 'memory' ? inMemory() : inDatabase(opened[name] as Database)),
    destroyCheckpointer: async () => void (await opened[name]?.rows(sql`delete from threads`)),
  }
  specTest(initializer)
  deltaChannelHistoryTests(initializer)
}
