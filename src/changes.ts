// What changed from one text to the next: how much stays at both ends, and what stands between. In charge of cutting no
// character in two, so that each part is a text by itself; knows nothing of what the texts say.

/** How many characters of the text before stay at either end, and what stands between them now. */
export interface Change {
  prefix: number
  suffix: number
  middle: string
}

/** What makes `after` of `before`. */
export function changeOf(before: string, after: string): Change {
  const limit = Math.min(before.length, after.length)
  let prefix = common(limit, (from, to) => before.slice(from, to) === after.slice(from, to))
  if (isHigh(after.charCodeAt(prefix - 1))) prefix--
  const [a, b] = [before.length, after.length]
  let suffix = common(limit - prefix, (from, to) => before.slice(a - to, a - from) === after.slice(b - to, b - from))
  if (isHigh(after.charCodeAt(b - suffix - 1))) suffix--
  return { prefix, suffix, middle: after.slice(prefix, b - suffix) }
}

/** The text that the change makes. */
export const changed = (before: string, { prefix, suffix, middle }: Change): string =>
  before.slice(0, prefix) + middle + before.slice(before.length - suffix)

const isHigh = (unit: number): boolean => (unit & 0xfc00) === 0xd800

/** How far two texts are the same, up to `limit`; whole blocks are compared first. */
function common(limit: number, same: (from: number, to: number) => boolean): number {
  let at = 0
  for (let step = 4_096; step >= 1; step = step === 1 ? 0 : step / 16) {
    while (at + step <= limit && same(at, at + step)) at += step
  }
  return at
}
