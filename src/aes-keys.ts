// The keys that LANGGRAPH_AES_KEY holds, as data. In charge of how they are written down; must never print one. What is
// encrypted with them, and how, is in db/seal.ts.

/** A key with the name that everything encrypted with it carries. */
export interface AesKey {
  id: string
  /** 16, 24 or 32 bytes. */
  bytes: Buffer
}

/** The first key encrypts; all of them decrypt. */
export type AesKeys = readonly [AesKey, ...AesKey[]]

/** What a key that is given without a name is called. */
export const DEFAULT_KEY_ID = 'default'

const SIZES = [16, 24, 32]
const NAMED = /^([\w-]{1,32}):(.*)$/
const FORM =
  'must be a key of 16, 24 or 32 bytes (as it is, or 32 bytes as base64), or several as name:base64 with commas between them, the one to write with first'

/** Reads one key, or several with names. Throws an `Error` whose message follows the name of the variable. */
export function parseAesKeys(text: string): AesKeys {
  const named = text.split(',').map((part) => NAMED.exec(part.trim()))
  const keys = named.map((match) => {
    const bytes = match && fromBase64(match[2] as string)
    return match && bytes ? { id: match[1] as string, bytes } : undefined
  })
  const [first, ...more] = keys.filter((key) => key !== undefined)
  if (first !== undefined && more.length === keys.length - 1) return distinct([first, ...more])
  // Without a name the text is the key itself, as the platform has it.
  const plain = Buffer.from(text)
  const bytes = SIZES.includes(plain.length) ? plain : fromBase64(text)
  if (bytes !== undefined) return [{ id: DEFAULT_KEY_ID, bytes }]
  const wrong = named.findIndex((match, i) => match !== null && keys[i] === undefined)
  const name = named[wrong]?.[1]
  throw new Error(name === undefined ? FORM : `${FORM}: the key "${name}" is not 16, 24 or 32 bytes of base64`)
}

function distinct(keys: AesKeys): AesKeys {
  const twice = keys.find(({ id }, i) => keys.findIndex((key) => key.id === id) !== i)
  if (twice !== undefined) throw new Error(`must not name two keys "${twice.id}"`)
  return keys
}

/** The bytes, where the text is base64 of a key and nothing else. */
function fromBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64')
  const isWhole = [bytes.toString('base64'), bytes.toString('base64url')].some(
    (again) => again === text || again.replace(/=+$/, '') === text,
  )
  return isWhole && SIZES.includes(bytes.length) ? bytes : undefined
}
