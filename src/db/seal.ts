// Encryption at rest: what threads say and hold becomes bytes that only the keys can read. In charge of the cipher, of the
// form of what is stored, and of binding each value to its row, so that none can be put in another's place. Where there is
// no seal, everything here gives back what it was given; where there is one, what is not encrypted is refused.

import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto'
import type { AesKey, AesKeys } from '../aes-keys.ts'
import { ApiError } from '../errors.ts'
import type { Blob } from '../executor/stored.ts'

/** Which row a value belongs to: its table and key, and whatever else says how the value is to be read. */
export type RowName = readonly (string | number | null)[]

/** Encrypts and decrypts the values of rows. */
export interface Seal {
  seal(plain: Uint8Array, row: RowName): Buffer
  /** Throws `cannot_decrypt`: a key is missing, the value was changed, or is another row's. */
  open(sealed: Uint8Array, row: RowName): Buffer
  /** True for a value under the key that writes. */
  isCurrent(sealed: Uint8Array): boolean
}

/** Whatever may have a seal: a database, a transaction. */
interface Sealing {
  readonly seal?: Seal | undefined
}

// A version byte, the length of the key's name, the name, a salt, the nonce, the text, the tag. Each message has a key of its
// own, made of the named one and the salt: random nonces under one key alone would be too short for a busy server's years.
const VERSION = 1
const SALT = 16
const NONCE = 12
const TAG = 16

/** Makes a seal: the first key encrypts, all of them decrypt. */
export function createSeal(keys: AesKeys): Seal {
  const byId = new Map(keys.map((key) => [key.id, key]))
  const [current] = keys
  const name = Buffer.from(current.id)
  const head = Buffer.from([VERSION, name.length, ...name])
  return {
    seal(plain, row) {
      const random = randomBytes(SALT + NONCE)
      const salt = random.subarray(0, SALT)
      const cipher = createCipheriv(cipherOf(current), messageKey(current, salt), random.subarray(SALT), OPTIONS)
      cipher.setAAD(named(row))
      return Buffer.concat([head, random, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
    },
    open(sealed, row) {
      const { id, at } = keyOf(sealed, row)
      const key = byId.get(id)
      if (key === undefined)
        throw refusal(row, `is encrypted with the key "${id}", which LANGGRAPH_AES_KEY does not hold`)
      const body = Buffer.from(sealed.buffer, sealed.byteOffset + at, sealed.byteLength - at)
      if (body.length < SALT + NONCE + TAG) throw refusal(row, TAMPERED)
      const salt = body.subarray(0, SALT)
      const nonce = body.subarray(SALT, SALT + NONCE)
      const cipher = createDecipheriv(cipherOf(key), messageKey(key, salt), nonce, OPTIONS)
      cipher.setAAD(named(row))
      cipher.setAuthTag(body.subarray(-TAG))
      try {
        return Buffer.concat([cipher.update(body.subarray(SALT + NONCE, -TAG)), cipher.final()])
      } catch {
        throw refusal(row, TAMPERED)
      }
    },
    isCurrent: (sealed) => head.equals(sealed.subarray(0, head.length)),
  }
}

const OPTIONS = { authTagLength: TAG }
const TAMPERED = "does not decrypt: it was changed, or is not that row's"
const PLAIN = 'is not encrypted, and LANGGRAPH_AES_KEY is set: stop the servers and run heddle encrypt'

const cipherOf = ({ bytes }: AesKey) => `aes-${bytes.length * 8}-gcm` as 'aes-256-gcm'
const messageKey = ({ bytes }: AesKey, salt: Uint8Array): Buffer =>
  createHmac('sha256', bytes).update(salt).digest().subarray(0, bytes.length)
const named = (row: RowName): Buffer => Buffer.from(JSON.stringify(row))
const refusal = (row: RowName, words: string): ApiError =>
  new ApiError('cannot_decrypt', `A stored value (${row.slice(0, 5).join(' ')}) ${words}.`)

function keyOf(sealed: Uint8Array, row: RowName): { id: string; at: number } {
  const length = sealed[1] ?? 0
  if (sealed[0] !== VERSION || length === 0 || sealed.length < 2 + length) throw refusal(row, TAMPERED)
  return { id: Buffer.from(sealed.subarray(2, 2 + length)).toString(), at: 2 + length }
}

// ------------------------------------------------------------------------------------------------ bytes with a type

/** Comes before other types in the alphabet, so that the least of several says whether any is encrypted. */
const SEALED_TYPE = 'aes+'

/** A blob as it is stored. */
export const sealBlob = ({ seal }: Sealing, { type, bytes }: Blob, row: RowName): Blob =>
  seal === undefined ? { type, bytes } : { type: SEALED_TYPE + type, bytes: seal.seal(bytes, [...row, type]) }

/** A stored blob as it was. */
export function openBlob({ seal }: Sealing, { type, bytes }: Blob, row: RowName): Blob {
  if (seal === undefined) return { type, bytes }
  if (!type.startsWith(SEALED_TYPE)) throw refusal(row, PLAIN)
  const plain = type.slice(SEALED_TYPE.length)
  return { type: plain, bytes: seal.open(bytes, [...row, plain]) }
}

// ------------------------------------------------------------------------------------------------ text

const SEALED_TEXT = 'aes:'

/** Text as it is stored in a text column. */
export const sealText = ({ seal }: Sealing, text: string, row: RowName): string =>
  seal === undefined ? text : SEALED_TEXT + seal.seal(Buffer.from(text), row).toString('base64')

/** Stored text as it was. */
export const openText = ({ seal }: Sealing, text: string, row: RowName): string =>
  seal === undefined ? text : bytesOf(seal, text, row).toString()

function bytesOf(seal: Seal, stored: unknown, row: RowName): Buffer {
  if (typeof stored !== 'string' || !stored.startsWith(SEALED_TEXT)) throw refusal(row, PLAIN)
  return seal.open(Buffer.from(stored.slice(SEALED_TEXT.length), 'base64'), row)
}

/** A value for a json column (give it to `json`). What says nothing stays what it is: undefined, null, an empty object. */
export const sealValue = (db: Sealing, value: unknown, row: RowName): unknown =>
  db.seal === undefined || value === undefined || value === null || isEmpty(value)
    ? value
    : sealText(db, JSON.stringify(value), row)

/** The value of a json column as it was. An empty object is what rows begin with, and says nothing. */
export function openValue<T>({ seal }: Sealing, value: T, row: RowName): T {
  if (seal === undefined || value === undefined || value === null || isEmpty(value)) return value
  return JSON.parse(bytesOf(seal, value, row).toString()) as T
}

const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length === 0

// ------------------------------------------------------------------------------------------------ readers

/** Gives what is stored as it was; undefined where it may stay as it is stored. */
export interface Reader {
  blob(stored: Blob, row: RowName): Blob | undefined
  text(stored: string, row: RowName): string | undefined
  value(stored: unknown, row: RowName): unknown
}

/** Reads everything, and refuses what is not encrypted. */
export const strictReader = (db: Sealing): Reader => ({
  blob: (stored, row) => openBlob(db, stored, row),
  text: (stored, row) => openText(db, stored, row),
  value: (stored, row) => (isEmpty(stored) || stored === null ? undefined : openValue(db, stored, row)),
})

/** Reads what is not yet encrypted with the first key. */
export function stragglerReader(db: Sealing & { readonly seal: Seal }): Reader {
  const { seal } = db
  const isSealed = (text: unknown): text is string => typeof text === 'string' && text.startsWith(SEALED_TEXT)
  const isCurrent = (text: string) => seal.isCurrent(Buffer.from(text.slice(SEALED_TEXT.length), 'base64'))
  return {
    blob(stored, row) {
      if (!stored.type.startsWith(SEALED_TYPE)) return stored
      return seal.isCurrent(stored.bytes) ? undefined : openBlob(db, stored, row)
    },
    text(stored, row) {
      if (!isSealed(stored)) return stored
      return isCurrent(stored) ? undefined : openText(db, stored, row)
    },
    value(stored, row) {
      if (stored === null || isEmpty(stored)) return undefined
      if (!isSealed(stored)) return stored
      return isCurrent(stored) ? undefined : openValue(db, stored, row)
    },
  }
}

// ------------------------------------------------------------------------------------------------ rows

/** The names of the rows that are sealed. */
export const names = {
  value: (
    at: { thread_id: string; checkpoint_ns: string },
    of: { channel: string; version: string; chain: string | null; base: string | null; splices: string | null },
  ): RowName => [
    ...['checkpoint_values', at.thread_id, at.checkpoint_ns, of.channel, of.version, of.chain, of.base],
    ...(of.splices === null ? [] : [of.splices]),
  ],
  write: (
    at: { thread_id: string; checkpoint_ns: string; checkpoint_id: string; task_id: string },
    of: { idx: number; channel: string; source: string | null; splices: string | null },
  ): RowName => [
    ...['checkpoint_writes', at.thread_id, at.checkpoint_ns, at.checkpoint_id, of.channel, at.task_id, of.idx],
    ...(of.source === null && of.splices === null ? [] : [of.source]),
    ...(of.splices === null ? [] : [of.splices]),
  ],
  events: (threadId: string, of: { run_id: string; first_seq: number }): RowName => [
    'events',
    threadId,
    of.run_id,
    of.first_seq,
  ],
  kwargs: (of: { run_id: string; thread_id: string }): RowName => ['runs', of.run_id, of.thread_id, 'kwargs'],
  thread: (threadId: string, column: 'values' | 'interrupts'): RowName => ['threads', threadId, column],
}

/** A row of a thread with its values and interrupts as they were. */
export function openThread<T extends { values?: unknown; interrupts?: unknown }>(
  db: Sealing,
  row: T,
  threadId: string,
): T {
  if (db.seal === undefined) return row
  const opened = { ...row }
  for (const column of ['values', 'interrupts'] as const)
    if (column in row) opened[column] = openValue(db, row[column], names.thread(threadId, column))
  return opened
}

type Kwargs = Record<string, unknown>

/** A run's arguments as they are stored: the address of its webhook stands beside, since statements ask for it. */
export function sealKwargs(db: Sealing, kwargs: Kwargs, run: { run_id: string; thread_id: string }): Kwargs {
  if (db.seal === undefined) return kwargs
  const sealed = sealValue(db, kwargs, names.kwargs(run))
  return kwargs.webhook === undefined ? { sealed } : { webhook: kwargs.webhook, sealed }
}

/** What of a run's stored arguments is encrypted; all of them where nothing is. */
export const sealedKwargs = (stored: Kwargs): unknown => (typeof stored.sealed === 'string' ? stored.sealed : stored)

/** A run with its arguments as they were. */
export const openRun = <T extends { run_id: string; thread_id: string; kwargs: Kwargs }>(db: Sealing, row: T): T =>
  db.seal === undefined ? row : { ...row, kwargs: openValue(db, sealedKwargs(row.kwargs), names.kwargs(row)) as Kwargs }
