// Lists that are stored in parts: one after the other, or standing in a value because the thread has them already. In charge of
// putting them together; knows the bytes of JSON lists only.

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

/** One list of encoded lists, as it would be encoded itself. */
export function joinLists(parts: readonly Uint8Array[]): Uint8Array {
  const [first, ...added] = parts
  if (first === undefined || added.length === 0) return first ?? new Uint8Array()
  const pieces: Uint8Array[] = [first.subarray(0, -1)]
  let isEmpty = first.length === 2
  for (const part of added) {
    if (part.length === 2) continue
    if (!isEmpty) pieces.push(COMMA)
    pieces.push(part.subarray(1, -1))
    isEmpty = false
  }
  return Buffer.concat([...pieces, END])
}

const COMMA = Buffer.from(',')
const END = Buffer.from(']')
const [CLOSE] = END
