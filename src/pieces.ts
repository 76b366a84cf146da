// Bytes in pieces: what is only cut, put together anew and passed on is not copied for it. In charge of nothing but that; pieces
// are never changed, and the same memory may stand in many lists of them.

export type Pieces = readonly Uint8Array[]

/** How many bytes there are. */
export const lengthOf = (pieces: Pieces): number => pieces.reduce((length, piece) => length + piece.length, 0)

/** The bytes from one place up to another. */
export function cut(pieces: Pieces, from: number, to: number): Uint8Array[] {
  const found: Uint8Array[] = []
  let at = 0
  for (const piece of pieces) {
    const part = piece.subarray(Math.max(0, from - at), Math.max(0, to - at))
    if (part.length > 0) found.push(part)
    at += piece.length
  }
  return found
}

/** The bytes in one; of a single piece, that piece. */
export const joined = (pieces: Pieces): Buffer => {
  const [only] = pieces
  if (only === undefined || pieces.length > 1) return Buffer.concat(pieces)
  return Buffer.from(only.buffer, only.byteOffset, only.byteLength)
}

/** The bytes of a text, in UTF-8. */
export const bytesOf = (text: string | Pieces): Pieces => (typeof text === 'string' ? [Buffer.from(text)] : text)

/** The text of bytes in UTF-8. */
export const textOf = (text: string | Pieces): string => (typeof text === 'string' ? text : joined(text).toString())
