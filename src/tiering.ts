// When V8 optimises what runs often. In charge of one setting of it, in the processes that are Heddle's own; what a program that
// embeds Heddle wants of its V8 is not Heddle's to say.

import { setFlagsFromString } from 'node:v8'

/** From this version on V8 waits by itself, for 3,000 calls of a function. */
const WAITS = 12
/** How many bytes of bytecode a function runs between two looks at it; V8's own figure was 67,584. */
const BUDGET = 300_000

/** Has an old V8 (that of Node 20) optimise later. By itself it begins so early that a new process spends a quarter of its first
 *  five hundred runs on compiling, and gets little for it. To be called once, before there is work. */
export function optimiseLater(version = process.versions.v8, set = setFlagsFromString): void {
  if (Number.parseInt(version, 10) < WAITS) set(`--interrupt-budget=${BUDGET}`)
}
