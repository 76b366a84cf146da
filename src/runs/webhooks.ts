// Where webhooks may go: which URLs a run may name, and which addresses may be connected to. In charge of the one rule that is
// asked when a run is created, again before each try, and of every address at the moment of connecting. Pure.

import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import type { WebhookConfig } from '../config.ts'
import { ApiError } from '../errors.ts'

const PUBLIC = new Set(['unicast'])
const PRIVATE = new Set([...PUBLIC, 'private', 'loopback', 'carrierGradeNat', 'uniqueLocal'])

/** Where clouds keep what belongs to the machine and not to who asks; those in ranges that are never allowed are not named. */
const METADATA = new Set(['100.100.100.200', '168.63.129.16', 'fd00:ec2::254', 'fd20:ce::254'])

/** Whether this IP address may be connected to: a public one; with `allowPrivate` also one of a private network or of this
 *  machine. Never link-local ones and others where clouds keep their metadata, and none that stand for another address. */
export function isAllowed(address: string, allowPrivate: boolean): boolean {
  if (isIP(address) === 0) return false
  // An IPv4 address written as IPv6 is what the connection goes to.
  const parsed = ipaddr.process(address)
  const range: string = parsed.range()
  // What the internet gives out; below lie the unspecified address, the old forms that stand for an IPv4 address, NAT64.
  const isGlobal = !(parsed instanceof ipaddr.IPv6) || (parsed.parts[0] ?? 0) >> 13 === 1
  if (METADATA.has(parsed.toString()) || (range === 'unicast' && !isGlobal)) return false
  return (allowPrivate ? PRIVATE : PUBLIC).has(range)
}

const HOW_TO_ALLOW = 'the operator can allow it with HEDDLE_WEBHOOK_ALLOW_PRIVATE=true'

/** Whether a webhook is one of this server's custom app: a path there, and no way to any other host. */
export const isOfApp = (url: string): boolean => url.startsWith('/')

/** Why a webhook must not go to this URL, as the rest of a sentence; undefined where it may. What its name resolves to is
 *  looked at when connecting. */
export function refusalOf(given: string, config: WebhookConfig): string | undefined {
  const { requireHttps, allowedDomains, allowedPorts, maxUrlLength, allowPrivate } = config
  if (given.length > maxUrlLength) return `must be at most ${maxUrlLength} characters long`
  if (isOfApp(given)) return refusalOfPath(given, config)
  if (!URL.canParse(given))
    return 'must be an absolute http or https URL, or begin with / for the custom app of this server'
  const url = new URL(given)
  if (url.protocol !== 'https:' && (url.protocol !== 'http:' || requireHttps))
    return `must begin with ${requireHttps ? 'https://' : 'http:// or https://'}`
  if (url.username !== '' || url.password !== '') return 'must not hold a user or a password'
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
  if (allowedPorts !== undefined && !allowedPorts.includes(port))
    return `must be on one of the ports ${allowedPorts.join(', ')}`
  const host = hostOf(url)
  if (allowedDomains !== undefined && !allowedDomains.some((domain) => isWithin(host, domain)))
    return 'must be on a domain that webhooks.url.allowed_domains of this server names'
  const isHere = host === 'localhost' || host.endsWith('.localhost')
  if (isIP(host) !== 0 ? !isAllowed(host, allowPrivate) : isHere && !allowPrivate)
    return `must not be an address of a private network or of this machine: ${HOW_TO_ALLOW}`
  return undefined
}

function refusalOfPath(given: string, { toApp }: WebhookConfig): string | undefined {
  if (toApp === 'none') return 'must be an absolute http or https URL: this server has no custom app (http.app) to call'
  if (toApp === 'forbidden')
    return 'must be an absolute http or https URL: webhooks.url.disable_loopback of this server forbids relative ones'
  // Whatever some reader of URLs takes for the beginning of a host, or drops.
  if (!PLAIN_PATH.test(given) || pathOf(given).startsWith('//'))
    return 'must be a path of the custom app: one slash at its beginning, no backslashes, and other special characters encoded'
  return undefined
}

const PLAIN_PATH = /^\/(?![\\/])[^\\\s\p{Cc}]*$/u

/** A relative URL as the URL standard prints it, without dot segments and fragment. */
function pathOf(given: string): string {
  const { pathname, search } = new URL(given, 'http://app.invalid')
  return pathname + search
}

/** The host of a URL as an address or a name, without the dot at the end that a name may have. */
export const hostOf = (url: URL): string => url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')

/** `*.a.example` means every name below a.example, and not itself. */
const isWithin = (host: string, domain: string): boolean =>
  domain.startsWith('*.') ? host.endsWith(domain.slice(1).toLowerCase()) : host === domain.toLowerCase()

/** The webhook that a run may name, as the URL standard prints it. Throws `validation_failed`; `not_supported` where `config`
 *  is undefined because webhooks are switched off. */
export function webhookOf(given: string, config: WebhookConfig | undefined): string {
  if (config === undefined) {
    throw new ApiError('not_supported', 'body.webhook: webhooks are switched off on this server: leave it out')
  }
  const refusal = refusalOf(given, config)
  if (refusal !== undefined) throw new ApiError('validation_failed', `body.webhook: ${refusal}`)
  if (isOfApp(given)) return pathOf(given)
  const url = new URL(given)
  url.hash = ''
  return url.href
}
