// Lists that stand in a value without being stored with it, because the thread has them already. In charge of putting them in;
// knows bytes only.

/** A value with the lists that begin in it, each put in after its place. `listOf` gives a list as JSON, `[…]`; places are bytes of
 *  the value without any list, in rising order. */
export function spliced<S extends { at: number }>(
  bytes: Uint8Array,
  splices: readonly S[],
  listOf: (splice: S) => Uint8Array,
): Uint8Array {
  if (splices.length === 0) return bytes
  const pieces: Uint8Array[] = []
  let from = 0
  for (const splice of splices) {
    const { at } = splice
    if (at < from || at >= bytes.length) throw new Error('A stored list does not fit the value that it stands in.')
    const items = listOf(splice).subarray(1, -1)
    pieces.push(bytes.subarray(from, at), items)
    if (items.length > 0 && bytes[at] !== CLOSE) pieces.push(COMMA)
    from = at
  }
  return Buffer.concat([...pieces, bytes.subarray(from)])
}

const CLOSE = ']'.charCodeAt(0)
const COMMA = Buffer.from(',')
