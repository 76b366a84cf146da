// What is remembered of threads whose run has just ended in an executor, so that the next run need not read or send what the one
// before did. In charge of bounds and of giving out only what the run of the epoch before left. Holds bytes and texts, not
// objects: every run gets its own, whatever the one before did to them.

import type { StoredCheckpoint } from './stored.ts'

export interface ThreadMemory<Left> {
  /** What the run of the epoch before left, if it ran here. The caller knows whether it is still so. */
  recall(threadId: string, epoch: number): Left | undefined
  /** Remembers what the run of this epoch leaves; without it, forgets the thread. */
  keep(threadId: string, epoch: number, left: Left | undefined): void
}

/** Makes one that holds at most so many bytes, those of the threads that ran last; what would take most of it is not held. */
export function createThreadMemory<Left>(maxBytes: number, sizeOf: (left: Left) => number): ThreadMemory<Left> {
  const known = new Map<string, { epoch: number; left: Left; bytes: number }>()
  let held = 0
  const forget = (threadId: string) => {
    held -= known.get(threadId)?.bytes ?? 0
    known.delete(threadId)
  }
  return {
    recall(threadId, epoch) {
      const found = known.get(threadId)
      return found?.epoch === epoch - 1 ? found.left : undefined
    },
    keep(threadId, epoch, left) {
      forget(threadId)
      const bytes = left === undefined ? 0 : sizeOf(left)
      if (left === undefined || bytes > maxBytes / 2) return
      known.set(threadId, { epoch, left, bytes })
      held += bytes
      for (const oldest of known.keys()) {
        if (held <= maxBytes) break
        forget(oldest)
      }
    },
  }
}

/** What a checkpoint takes beside its values, roughly. */
const OVERHEAD = 2_048

/** How many bytes a checkpoint takes, about. */
export const checkpointSize = ({ values, writes }: StoredCheckpoint): number =>
  [...values, ...writes].reduce((bytes, { blob }) => bytes + blob.bytes.length, OVERHEAD)
