// What the stock saver stored, as Heddle's saver stores it. In charge of reading its format with its own serializer, and of
// version names that go on in order when the thread does; encoding is the saver's.

import type { CheckpointTuple } from '@langchain/langgraph-checkpoint'
import { createCodec } from './codec.ts'
import type { LangChain } from './langchain.ts'
import { createLangChainLoader } from './langchain.ts'
import { type CheckpointSink, createSaver } from './saver.ts'

/** A checkpoint of the stock saver. `checkpoint` has no `channel_values`; `blob` is null for a channel without a value. */
export interface StockRecord {
  thread_id: string
  checkpoint_ns: string
  checkpoint_id: string
  parent_checkpoint_id: string | null
  checkpoint: Record<string, unknown>
  metadata: Record<string, unknown>
  values: readonly { channel: string; type: string; blob: Uint8Array | null }[]
}

/** A write of the stock saver, in the order of its task and index. */
export interface StockWriteRecord {
  task_id: string
  idx: number
  channel: string
  type: string | null
  blob: Uint8Array
}

/** Brings one thread's checkpoints in, oldest first. */
export interface StockWriter {
  /** Stores a checkpoint with those of its values that are given. */
  put(record: StockRecord): Promise<void>
  /** Stores what tasks wrote under a checkpoint. */
  writes(
    at: Pick<StockRecord, 'thread_id' | 'checkpoint_ns' | 'checkpoint_id'>,
    writes: readonly StockWriteRecord[],
  ): Promise<void>
}

/** Makes writers: one for each thread, since each remembers the lists of its own. */
export async function createStockWriters(): Promise<(sink: Pick<CheckpointSink, 'put' | 'writes'>) => StockWriter> {
  const langchain = await createLangChainLoader()()
  const codec = createCodec(langchain)
  const storage = { 'checkpoint.get': async () => null, 'checkpoint.list': async () => [] }
  return (sink) => {
    const saver = createSaver({ langchain, codec, storage, sink: { ...sink, settled: async () => {} } }).checkpointer
    return {
      async put({ values, metadata, ...record }) {
        const decoded: Record<string, unknown> = {}
        for (const { channel, type, blob } of values)
          if (type !== 'empty') decoded[channel] = await decode(langchain, type, blob, channel)
        const versions = versionsOf(record.checkpoint.channel_versions)
        const checkpoint = {
          ...record.checkpoint,
          channel_versions: versions,
          versions_seen: Object.fromEntries(
            Object.entries((record.checkpoint.versions_seen ?? {}) as Record<string, unknown>).map(([node, seen]) => [
              node,
              versionsOf(seen),
            ]),
          ),
          channel_values: decoded,
        }
        const fresh = Object.fromEntries(Object.keys(decoded).map((channel) => [channel, versions[channel] as string]))
        const config = { ...addressOf(record, record.parent_checkpoint_id), metadata }
        await saver.put(config, checkpoint as unknown as CheckpointTuple['checkpoint'], owned(metadata), fresh)
      },
      async writes(at, writes) {
        for (const taskId of new Set(writes.map(({ task_id }) => task_id))) {
          const own = writes.filter(({ task_id }) => task_id === taskId)
          const decoded = await Promise.all(
            own.map(async ({ idx, channel, type, blob }) => ({
              idx,
              write: [channel, await decode(langchain, type ?? '', blob, channel)] as [string, unknown],
            })),
          )
          const config = addressOf(at, at.checkpoint_id)
          // The saver counts what is not special from 0, as the stock one did.
          for (const special of decoded.filter(({ idx }) => idx < 0))
            await saver.putWrites(config, [special.write], taskId)
          const regular = decoded.filter(({ idx }) => idx >= 0)
          if (regular.length > 0)
            await saver.putWrites(
              config,
              regular.map(({ write }) => write),
              taskId,
            )
        }
      },
    }
  }
}

const addressOf = (of: { thread_id: string; checkpoint_ns: string }, checkpoint_id: string | null) => ({
  configurable: {
    thread_id: of.thread_id,
    checkpoint_ns: of.checkpoint_ns,
    ...(checkpoint_id === null ? {} : { checkpoint_id }),
  },
})

/** What LangGraph itself says of a checkpoint; the rest of its metadata came from whoever ran the graph. */
const owned = (metadata: Record<string, unknown>): CheckpointTuple['metadata'] & object =>
  Object.fromEntries(
    ['source', 'step', 'parents', 'counters_since_delta_snapshot'].flatMap((key) =>
      metadata[key] === undefined ? [] : [[key, metadata[key]]],
    ),
  ) as never

async function decode(langchain: LangChain, type: string, blob: Uint8Array | null, channel: string): Promise<unknown> {
  if (type !== 'json' && type !== 'bytes') {
    throw new Error(`The value of channel "${channel}" has the format "${type}", which this version cannot read.`)
  }
  return new langchain.checkpoint.MemorySaver().serde.loadsTyped(type, blob ?? new Uint8Array(0))
}

const versionsOf = (versions: unknown): Record<string, string> =>
  Object.fromEntries(Object.entries((versions ?? {}) as Record<string, unknown>).map(([key, v]) => [key, versionOf(v)]))

/** The stock saver counts versions as numbers. Ours are compared as text, so these become text that stays in order. */
export function versionOf(version: unknown): string {
  const match = /^(\d+)(?:\.(.*))?$/s.exec(String(version))
  if (match === null) throw new Error(`The channel version ${JSON.stringify(version)} cannot be read.`)
  const [, count = '', rest] = match
  return `${count.replace(/^0+(?=\d)/, '').padStart(10, '0')}.${rest ?? '0'.repeat(12)}`
}
