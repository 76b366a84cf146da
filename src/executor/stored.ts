// What is stored of a thread's checkpoints, as the executor, the protocol and the database say it to each other. Holds no behaviour
// and imports nothing; docs/executor-protocol.md describes the same in prose.

/** An encoded value: bytes to everything but the codec, which `type` names. */
export interface Blob {
  type: string
  bytes: Uint8Array
}

/** Where in a blob a list begins as another of the thread does, which is not in the blob: after its byte `at`, counted without what
 *  others put in. The other is a channel's value that is stored as a list, in this namespace or in one that it is part of. */
export interface StoredSplice {
  at: number
  checkpoint_ns: string
  channel: string
  version: string
}

/** One to store, with how many bytes stand there when it is read. */
export interface Splice extends StoredSplice {
  bytes: number
}

/** A checkpoint to store. `checkpoint` has no `channel_values`: those are `values`, one per new channel version. */
export interface CheckpointPut {
  thread_id: string
  checkpoint_ns: string
  checkpoint_id: string
  parent_checkpoint_id: string | null
  checkpoint: Record<string, unknown>
  metadata: Record<string, unknown>
  values: {
    channel: string
    version: string
    blob: Blob
    /** Lists only: where this version stands. With a base, the blob holds what was added to it. */
    list?: { chain: string; position: number; base: string | null }
    splices?: Splice[]
  }[]
}

/** How a list is stored: one version whole, and each after it as what it added to the one before. */
export interface Chain {
  /** The version that is stored whole. */
  id: string
  /** How many stand between it and the list. */
  position: number
  /** Bytes of the one that is whole, and of all that was added since. */
  whole_bytes: number
  added_bytes: number
}

/** A task's writes to store under a checkpoint. `idx` is negative for special channels (errors, interrupts …). */
export interface WritesPut {
  thread_id: string
  checkpoint_ns: string
  checkpoint_id: string
  task_id: string
  task_path: string
  writes: { idx: number; channel: string; blob: Blob; splices?: Splice[] }[]
}

/** A stored checkpoint with its values and pending writes (writes sorted by task_path, task_id, idx). */
export interface StoredCheckpoint extends Omit<CheckpointPut, 'values'> {
  /** Lists come put together, with how they are stored. */
  values: { channel: string; blob: Blob; chain?: Chain }[]
  writes: { task_id: string; task_path: string; idx: number; channel: string; blob: Blob }[]
}

/** Channels whose bytes a read can do without: what they have, and what was written to them, then comes as blobs of the type
 *  `left_out`, without bytes. */
export interface LeaveOut {
  values: string[]
  writes: string[]
}
