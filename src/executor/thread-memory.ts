// What an executor remembers of threads whose run has just ended in it, so that the next run need not read what the one before
// wrote. In charge of bounds and of giving out only what the server says is still so. Holds bytes, not objects: every run
// gets its own, whatever the one before did to them.

import type { StoredCheckpoint } from './protocol.ts'

export interface ThreadMemory {
  /** The latest checkpoint of the thread's root namespace, if the run of the epoch before ran here. The caller knows that
   *  nothing has changed since. */
  recall(threadId: string, epoch: number): StoredCheckpoint | undefined
  /** Remembers what the run of this epoch leaves; without it, forgets the thread. */
  keep(threadId: string, epoch: number, latest: StoredCheckpoint | undefined): void
}

/** Makes one that holds at most so many bytes, those of the threads that ran last; what would take most of it is not held. */
export function createThreadMemory(maxBytes: number): ThreadMemory {
  const known = new Map<string, { epoch: number; latest: StoredCheckpoint; bytes: number }>()
  let held = 0
  const forget = (threadId: string) => {
    held -= known.get(threadId)?.bytes ?? 0
    known.delete(threadId)
  }
  return {
    recall(threadId, epoch) {
      const found = known.get(threadId)
      return found?.epoch === epoch - 1 ? found.latest : undefined
    },
    keep(threadId, epoch, latest) {
      forget(threadId)
      const bytes = latest === undefined ? 0 : sizeOf(latest)
      if (latest === undefined || bytes > maxBytes / 2) return
      known.set(threadId, { epoch, latest, bytes })
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

const sizeOf = ({ values, writes }: StoredCheckpoint): number =>
  [...values, ...writes].reduce((bytes, { blob }) => bytes + blob.bytes.length, OVERHEAD)
