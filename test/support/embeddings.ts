// Embeddings for tests: words counted into a few numbers, so that texts with the same words are alike. Keeps what it was asked.

/** As a function from texts to vectors, with every batch of texts it was given. */
export interface CountingEmbed {
  (texts: string[]): Promise<number[][]>
  readonly batches: string[][]
}

export const DIMS = 64

/** Makes one; `dims` is how many numbers its vectors have. */
export function countingEmbed(dims = DIMS): CountingEmbed {
  const batches: string[][] = []
  const embed = async (texts: string[]) => {
    batches.push(texts)
    return texts.map((text) => wordVector(text, dims))
  }
  return Object.assign(embed, { batches })
}

/** A text's words, counted by where their characters lead. */
export function wordVector(text: string, dims = DIMS): number[] {
  const vector = new Array<number>(dims).fill(0)
  for (const word of text.toLowerCase().match(/\p{L}+/gu) ?? []) {
    let at = 7
    for (const char of word) at = (at * 31 + (char.codePointAt(0) as number)) % 1_000_003
    vector[at % dims] = (vector[at % dims] as number) + 1
  }
  return vector
}

/** The cosine of the angle between two texts' vectors, reckoned independently of any database. */
export function likeness(a: string, b: string, dims = DIMS): number {
  const [x, y] = [wordVector(a, dims), wordVector(b, dims)]
  const dot = (p: number[], q: number[]) => p.reduce((sum, n, i) => sum + n * (q[i] as number), 0)
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y))
}
