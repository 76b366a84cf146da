// Signatures of webhooks, by the Standard Webhooks specification. In charge of the headers that a receiver verifies; with several
// secrets each signs, so that receivers may go over from one to the next.

import { createHmac } from 'node:crypto'
import { ConfigError } from '../errors.ts'
import { webhookKey } from '../variables.ts'

/** The headers of one try: the id stays, the time is that of the try, in seconds. */
export type Sign = (id: string, seconds: number, body: string) => Record<string, string>

/** Throws `ConfigError` for what is no secret. Without secrets, nothing is signed. */
export function createSign(secrets: readonly string[]): Sign {
  const keys = secrets.map((secret) => {
    const key = webhookKey(secret)
    if (key === undefined) throw new ConfigError('A webhook secret must be "whsec_" and then 24 to 64 bytes in base64.')
    return key
  })
  return (id, seconds, body) => {
    const signed = keys.map(
      (key) => `v1,${createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64')}`,
    )
    return {
      'webhook-id': id,
      'webhook-timestamp': String(seconds),
      ...(signed.length > 0 && { 'webhook-signature': signed.join(' ') }),
    }
  }
}
