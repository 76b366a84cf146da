// New ids and other random bytes. In charge of asking the system for many at once: asking costs the same for 16 bytes as for
// thousands, and more than all else that an id takes. Nobody can tell what is kept here: it is random.

import { randomFillSync } from 'node:crypto'
import { v7 } from 'uuid'

const POOL = 4096

function createRandom(): (count: number) => Uint8Array {
  const pool = new Uint8Array(POOL)
  let used = POOL
  return (count) => {
    if (used + count > POOL) {
      randomFillSync(pool)
      used = 0
    }
    used += count
    return pool.slice(used - count, used)
  }
}

function createIds(): () => string {
  let msecs = 0
  let seq = 0
  return () => {
    const random = randomBytes(16)
    const now = Date.now()
    if (now > msecs) {
      msecs = now
      seq = new DataView(random.buffer).getUint32(0) >>> 1
    } else if (seq < 0xffffffff) {
      seq += 1
    } else {
      msecs += 1
      seq = 0
    }
    return v7({ random, msecs, seq })
  }
}

/** Random bytes, at most 4,096 of them; the caller's to keep. */
export const randomBytes = createRandom()

/** A UUID of version 7. Those of one process sort in the order of their making, within a millisecond too, and where the clock is
 *  set back (RFC 9562, section 6.2). */
export const newId = createIds()
