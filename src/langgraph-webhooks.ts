// The key `webhooks` of langgraph.json. In charge of putting environment variables into headers: only those with the prefix, so
// that a project file cannot send away whatever the environment holds.

import { validateHeaderName, validateHeaderValue } from 'node:http'
import type { z } from 'zod'
import type { Variables, WebhookConfig } from './config.ts'
import type { ConfigError } from './errors.ts'
import type { webhooksSchema } from './langgraph-keys.ts'

const OWN = /^(webhook-.*|host|content-type|content-length|transfer-encoding|connection|user-agent)$/i
const TEMPLATE = /\$\{\{\s*(.*?)\s*\}\}/g

/** What the project says of webhooks. `wrong` makes the error of a sentence about the file. */
export function readWebhooks(
  given: z.output<typeof webhooksSchema>,
  variables: Variables,
  wrong: (what: string) => ConfigError,
): Partial<WebhookConfig> {
  const { url = {}, headers = {}, env_prefix = 'LG_WEBHOOK_' } = given
  const read = ([name, value]: [string, string]): [string, string] => {
    const key = `webhooks.headers.${name}`
    const text = value.replaceAll(TEMPLATE, (_, inside: string) => {
      const variable = /^env\.(\w+)$/.exec(inside)?.[1]
      if (variable === undefined) throw wrong(`${key} holds \${{ ${inside} }}: write it as \${{ env.NAME }}.`)
      if (!variable.startsWith(env_prefix))
        throw wrong(`${key} names the variable ${variable}, which must begin with ${env_prefix}.`)
      const found = variables[variable]
      if (found === undefined || found === '') throw wrong(`${key} names the variable ${variable}, which is not set.`)
      return found
    })
    if (OWN.test(name)) throw wrong(`${key} is a header that the server sets itself: remove it.`)
    try {
      validateHeaderName(name)
      validateHeaderValue(name, text)
    } catch {
      throw wrong(`${key} cannot be sent as a header: its name or value has characters that headers cannot hold.`)
    }
    return [name, text]
  }
  return {
    ...(url.require_https !== undefined && { requireHttps: url.require_https }),
    // An empty list names none, as if it were not there.
    ...(url.allowed_domains?.length && { allowedDomains: url.allowed_domains }),
    ...(url.allowed_ports?.length && { allowedPorts: url.allowed_ports }),
    ...(url.max_url_length !== undefined && { maxUrlLength: url.max_url_length }),
    ...(url.disable_loopback === true && { toApp: 'forbidden' as const }),
    headers: Object.fromEntries(Object.entries(headers).map(read)),
  }
}
