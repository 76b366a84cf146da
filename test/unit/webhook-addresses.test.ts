// Forged requests: where a webhook must not lead, however the address is written, named or resolved.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { defaultServerConfig } from '../../src/config.ts'
import { isAllowed, refusalOf, webhookOf } from '../../src/runs/webhooks.ts'
import { createPost } from '../../src/worker/webhook-post.ts'

const config = defaultServerConfig.webhooks
const open = { ...config, allowPrivate: true }

/** Address, and whether it is allowed: never, in private networks, always. */
const table: readonly [address: string, allowed: 'never' | 'private' | 'always'][] = [
  ['8.8.8.8', 'always'],
  ['1.1.1.1', 'always'],
  ['172.15.255.255', 'always'],
  ['172.32.0.1', 'always'],
  ['100.63.255.255', 'always'],
  ['100.128.0.1', 'always'],
  ['169.253.255.255', 'always'],
  ['223.255.255.255', 'always'],
  ['2606:4700:4700::1111', 'always'],
  ['2a00:1450:4001:81b::200e', 'always'],
  ['::ffff:8.8.8.8', 'always'],
  ['127.0.0.1', 'private'],
  ['127.255.255.254', 'private'],
  ['10.0.0.0', 'private'],
  ['10.255.255.255', 'private'],
  ['172.16.0.1', 'private'],
  ['172.31.255.255', 'private'],
  ['192.168.0.1', 'private'],
  ['100.64.0.1', 'private'],
  ['100.127.255.255', 'private'],
  ['::1', 'private'],
  ['fc00::1', 'private'],
  ['fd12:3456::1', 'private'],
  ['::ffff:127.0.0.1', 'private'],
  ['::ffff:7f00:1', 'private'],
  ['::ffff:10.0.0.1', 'private'],
  ['::ffff:192.168.1.1', 'private'],
  // metadata of clouds, and what belongs to no host
  ['169.254.169.254', 'never'],
  ['169.254.170.2', 'never'],
  ['::ffff:169.254.169.254', 'never'],
  ['fd00:ec2::254', 'never'],
  ['fd20:ce::254', 'never'],
  ['100.100.100.200', 'never'],
  ['168.63.129.16', 'never'],
  ['192.0.0.192', 'never'],
  ['0.0.0.0', 'never'],
  ['0.1.2.3', 'never'],
  ['::', 'never'],
  ['255.255.255.255', 'never'],
  ['224.0.0.1', 'never'],
  ['239.255.255.255', 'never'],
  ['240.0.0.1', 'never'],
  ['192.0.2.1', 'never'],
  ['192.88.99.1', 'never'],
  ['198.18.0.1', 'never'],
  ['198.51.100.1', 'never'],
  ['203.0.113.1', 'never'],
  ['fe80::1', 'never'],
  ['fe80::1%eth0', 'never'],
  ['fec0::1', 'never'],
  ['ff02::1', 'never'],
  ['100::1', 'never'],
  ['2001:db8::1', 'never'],
  ['3fff::1', 'never'],
  // forms that stand for an IPv4 address: compatible, translated, NAT64, 6to4, Teredo
  ['::7f00:1', 'never'],
  ['::a00:1', 'never'],
  ['::ffff:0:127.0.0.1', 'never'],
  ['64:ff9b::7f00:1', 'never'],
  ['64:ff9b::10.0.0.1', 'never'],
  ['64:ff9b::8.8.8.8', 'never'],
  ['64:ff9b:1::10.0.0.1', 'never'],
  ['2002:7f00:1::', 'never'],
  ['2002:a00:1::1', 'never'],
  ['2001:0:4136:e378:8000:63bf:3fff:fdd2', 'never'],
  // no addresses
  ['', 'never'],
  ['localhost', 'never'],
  ['127.1', 'never'],
  ['0x7f.0.0.1', 'never'],
]

test.each(table)('the address %s is allowed: %s', (address, allowed) => {
  expect([isAllowed(address, false), isAllowed(address, true)]).toEqual([allowed === 'always', allowed !== 'never'])
})

/** Ways to write this machine or its network into a URL. */
const written = [
  'http://127.0.0.1/',
  'http://127.1/',
  'http://2130706433/',
  'http://0x7f000001/',
  'http://0x7f.0.0.1/',
  'http://0177.0.0.1/',
  'http://017700000001/',
  'http://127.0.0.1./',
  'http://１２７.０.０.１/',
  'http://127。0。0。1/',
  'http://%31%32%37.0.0.1/',
  'http://0/',
  'http://0.0.0.0/',
  'http://localhost/',
  'http://localhost./',
  'http://LOCALHOST/',
  'http://a.localhost/',
  'http://[::1]/',
  'http://[::]/',
  'http://[0:0:0:0:0:0:0:1]/',
  'http://[::ffff:127.0.0.1]/',
  'http://[::ffff:7f00:1]/',
  'http://[64:ff9b::7f00:1]/',
  'http://[2002:7f00:1::]/',
  'http://10.0.0.1/',
  'http://192.168.1.1:8080/',
  'http://100.64.0.1/',
  'http://169.254.169.254/latest/meta-data/',
  'http://2852039166/',
  'http://0xa9fea9fe/',
  'http://[fd00:ec2::254]/',
  '\thttp://127.0.0.1/',
  'http:\\\\127.0.0.1\\',
  'http:127.0.0.1',
]

test.each(written)('%j is refused when a run names it', (url) => {
  expect(refusalOf(url, config)).toMatch(/^must not be an address of a private network or of this machine: /)
})

test.each([
  ['/hooks/done', 'must be an absolute http or https URL'],
  ['//example.com/x', 'must be an absolute http or https URL'],
  ['example.com', 'must be an absolute http or https URL'],
  ['http://', 'must be an absolute http or https URL'],
  ['http://256.1.1.1/', 'must be an absolute http or https URL'],
  ['http://1.2.3.4.5/', 'must be an absolute http or https URL'],
  ['http://[::1%25eth0]/', 'must be an absolute http or https URL'],
  ['file:///etc/passwd', 'must begin with http:// or https://'],
  ['data:text/plain,x', 'must begin with http:// or https://'],
  ['gopher://example.com/', 'must begin with http:// or https://'],
  ['http://user@example.com/', 'must not hold a user or a password'],
  ['http://example.com@127.0.0.1/', 'must not hold a user or a password'],
  ['http://:secret@example.com/', 'must not hold a user or a password'],
])('%j is refused: %s', (url, why) => {
  expect(refusalOf(url, open)).toMatch(new RegExp(`^${why}`))
})

const withApp = { ...config, toApp: 'allowed' } as const

test.each([
  ['/hooks/done', '/hooks/done'],
  ['/', '/'],
  ['/hooks/done?a=1&b=/x#part', '/hooks/done?a=1&b=/x'],
  ['/hooks/./a/../done', '/hooks/done'],
  ['/../../etc/passwd', '/etc/passwd'],
  ['/%2e%2e/x', '/x'],
  ['/ünter', '/%C3%BCnter'],
  ['/a%5Cb%0d%0ac', '/a%5Cb%0d%0ac'],
  ['/http://example.com/', '/http://example.com/'],
  ['/@example.com:80', '/@example.com:80'],
])('the relative URL %j is the path %j of the custom app', (url, path) => {
  expect(webhookOf(url, withApp)).toBe(path)
  // As it is stored, it is judged again before each try.
  expect(webhookOf(path, withApp)).toBe(path)
  // Whatever is behind the slash, there is no other host.
  expect(new URL(path, 'http://app.test').host).toBe('app.test')
})

test.each([
  ...[
    '//example.com',
    '//example.com/x',
    '///example.com',
    '/\\example.com',
    '\\\\example.com',
    '/x\\y',
    '/..//example.com',
  ],
  ...[
    '/.//example.com',
    '/a/..//example.com',
    '/%2e//example.com',
    '/\t/example.com',
    '/\n/example.com',
    '/ /example.com',
  ],
  ...['/a\r\nHost: x', '/a\u0000', '/a\u0085b', '/a\u2028b', ' /a', '\t/a'],
])('the relative URL %j, which some reader could take for another host or header, is refused', (url) => {
  expect(refusalOf(url, withApp)).toMatch(/^must be (a path of the custom app|an absolute http or https URL)/)
})

test('the policy of langgraph.json for relative URLs: forbidden, without an app, and their length', () => {
  const forbidden = { ...config, toApp: 'forbidden' } as const
  expect(refusalOf('/x', forbidden)).toBe(
    'must be an absolute http or https URL: webhooks.url.disable_loopback of this server forbids relative ones',
  )
  expect(refusalOf('/x', config)).toBe(
    'must be an absolute http or https URL: this server has no custom app (http.app) to call',
  )
  expect(refusalOf(`/${'x'.repeat(40)}`, { ...withApp, maxUrlLength: 40 })).toBe('must be at most 40 characters long')
  // The rest of the policy is about hosts.
  const strict = { ...withApp, requireHttps: true, allowedDomains: ['a.example'], allowedPorts: [443] }
  expect(refusalOf('/x', strict)).toBeUndefined()
})

test('a URL that may be called is kept as the URL standard prints it, without its fragment', () => {
  expect(webhookOf('HTTPS://Example.COM:443/a b?c=ü#d', config)).toBe('https://example.com/a%20b?c=%C3%BC')
  expect(webhookOf('http://8.8.8.8/', config)).toBe('http://8.8.8.8/')
  expect(webhookOf('http://[::1]:8080/x', open)).toBe('http://[::1]:8080/x')
  expect(() => webhookOf('http://localhost/', config)).toThrow(/^body\.webhook: must not be an address of a private/)
  expect(() => webhookOf('http://example.com/', undefined)).toThrow(/^body\.webhook: webhooks are switched off/)
})

test('the policy of langgraph.json: https, domains, ports, length', () => {
  const policy = {
    ...config,
    requireHttps: true,
    allowedDomains: ['hooks.example.com', '*.Example.org'],
    allowedPorts: [443, 8443],
    maxUrlLength: 40,
  }
  const ask = (url: string) => refusalOf(url, policy)?.slice(0, 22)
  expect(ask('https://hooks.example.com/a')).toBeUndefined()
  expect(ask('https://hooks.example.com./a')).toBeUndefined()
  expect(ask('https://HOOKS.example.com:8443/')).toBeUndefined()
  expect(ask('https://a.b.example.org/')).toBeUndefined()
  expect(ask('http://hooks.example.com:443/')).toBe('must begin with https:')
  expect(ask('https://example.org/')).toBe('must be on a domain th')
  expect(ask('https://example.com/')).toBe('must be on a domain th')
  expect(ask('https://evilexample.org/')).toBe('must be on a domain th')
  expect(ask('https://x.hooks.example.com/')).toBe('must be on a domain th')
  expect(ask('https://hooks.example.com:22/')).toBe('must be on one of the ')
  expect(ask(`https://hooks.example.com/${'a'.repeat(40)}`)).toBe('must be at most 40 cha')
})

describe('at the moment of connecting', () => {
  let hits = 0
  let port = 0
  const server = createServer((_, response) => {
    hits++
    response.end()
  })
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    port = (server.address() as AddressInfo).port
  })
  afterAll(() => server.close())

  const send = (post: ReturnType<typeof createPost>, host: string) =>
    post({ url: `http://${host}:${port}/`, headers: {}, body: '{}', signal: new AbortController().signal })
  const refused = { final: true, reason: expect.stringContaining('private network') }

  test.each(['127.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '2130706433', '0x7f.1'])(
    '%s itself is not called',
    async (host) => {
      const before = hits
      expect(await send(createPost({ allowPrivate: false }), host)).toEqual(refused)
      expect(hits).toBe(before)
    },
  )

  test.each([
    { addresses: ['127.0.0.1'] },
    { addresses: ['::1', '127.0.0.1'] },
    { addresses: ['::ffff:127.0.0.1'] },
    { addresses: ['64:ff9b::7f00:1'] },
    { addresses: ['169.254.169.254'] },
    { addresses: ['fd00:ec2::254'] },
    { addresses: [] },
  ])('a name that means $addresses is not called', async ({ addresses }) => {
    const before = hits
    const asked: string[] = []
    const resolve = async (name: string) => {
      asked.push(name)
      return addresses
    }
    expect(await send(createPost({ allowPrivate: false, resolve }), 'Hook.example.')).toEqual(refused)
    expect([asked, hits]).toEqual([['hook.example'], before])
  })

  test('a name is looked up once for each connection: what was looked at is what is called', async () => {
    const before = hits
    let asked = 0
    const resolve = async () => (asked++ % 2 === 0 ? ['127.0.0.1'] : ['169.254.169.254'])
    const post = createPost({ allowPrivate: true, resolve })
    for (let i = 1; i <= 4; i++) {
      expect(await send(post, 'rebind.example')).toEqual(i % 2 === 1 ? { status: 200 } : refused)
      expect([asked, hits - before]).toEqual([i, Math.ceil(i / 2)])
    }
  })

  test('of the addresses of a name, only those that may be called are', async () => {
    const before = hits
    const resolve = async () => ['169.254.169.254', '127.0.0.1']
    expect(await send(createPost({ allowPrivate: true, resolve }), 'mixed.example')).toEqual({
      status: 200,
      retryAfter: undefined,
    })
    expect(hits).toBe(before + 1)
  })
})
