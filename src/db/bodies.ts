// What is large in a statement: all of it travels as one binary parameter, because an array of texts or bytes would be escaped,
// sent and read as text. In charge of sending no bytes twice.

import { lengthOf, type Pieces } from '../pieces.ts'
import { join, type Sql, sql } from './sql.ts'

/** Where bytes stand in the parameter, counted from 1. */
export interface Place {
  start: number
  size: number
}

/** Collects the bytes of one statement. */
export class Bodies {
  readonly #pieces: Uint8Array[] = []
  #size = 0
  /** Which parts of a memory are there, and where. */
  readonly #known = new Map<ArrayBufferLike, (Place & { from: number })[]>()

  /** Adds bytes, to stand together. */
  add(pieces: Pieces): Place {
    const start = this.#size + 1
    for (const piece of pieces) this.#append(piece)
    return { start, size: lengthOf(pieces) }
  }

  /** Adds what of these bytes is not there yet, and says where their parts are, in order. */
  find(pieces: Pieces): Place[] {
    const places: Place[] = []
    for (const piece of pieces) {
      const { start, size } = this.#placeOf(piece) ?? this.add([piece])
      const last = places.at(-1)
      if (last && last.start + last.size === start) last.size += size
      else places.push({ start, size })
    }
    return places
  }

  /** A statement's parts, with what they find their bytes in. The statement begins with `with recursive`, since that comes last: a
   *  parameter behind it would have pg copy it once more. */
  with(parts: readonly Sql[]): Sql {
    if (parts.length === 0) return sql``
    return join([...parts, sql`, body as (select ${Buffer.concat(this.#pieces, this.#size)}::bytea as bytes)`], sql``)
  }

  #append(piece: Uint8Array): void {
    const known = this.#known.get(piece.buffer) ?? []
    this.#known.set(piece.buffer, known)
    known.push({ from: piece.byteOffset, start: this.#size + 1, size: piece.length })
    this.#pieces.push(piece)
    this.#size += piece.length
  }

  #placeOf({ buffer, byteOffset, length: size }: Uint8Array): Place | undefined {
    const found = this.#known
      .get(buffer)
      ?.find((known) => known.from <= byteOffset && byteOffset + size <= known.from + known.size)
    return found && { start: found.start + byteOffset - found.from, size }
  }
}

/** The bytes of the row `n`, which has their place. */
export const BYTES = sql`substring(body.bytes from n.start for n.size)`

/** The text of bytes. */
export const textFrom = (bytes: Sql): Sql => sql`convert_from(${bytes}, 'UTF8')`
