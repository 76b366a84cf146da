// Which requests leave the server for the custom app: never one too few, for then the app's middleware would not see it.

import { Hono } from 'hono'
import { expect, test } from 'vitest'
import { createMatcher } from '../../src/http/matcher.ts'

const asks = (routes: [method: string, path: string][], method: string, path: string): boolean =>
  createMatcher(routes.map(([method, path]) => ({ method, path })))(new Request(`http://a.test${path}`, { method }))

test.each<[routes: [string, string][], method: string, path: string, asked: boolean]>([
  [[['GET', '/hello']], 'GET', '/hello', true],
  [[['GET', '/hello']], 'GET', '/hello?a=/other', true],
  [[['GET', '/hello']], 'GET', '/%68ello', true],
  [[['GET', '/hello']], 'HEAD', '/hello', true],
  [[['GET', '/hello']], 'POST', '/hello', false],
  [[['GET', '/hello']], 'GET', '/hello/', false],
  [[['GET', '/hello']], 'GET', '/hello/you', false],
  [[['POST', '/users/:id{[0-9]+}']], 'POST', '/users/12', true],
  [[['POST', '/users/:id{[0-9]+}']], 'POST', '/users/me', false],
  [[['GET', '/a/:b?']], 'GET', '/a', true],
  [[['ALL', '/threads/*']], 'PATCH', '/threads/1', true],
  [[['ALL', '/threads/*']], 'OPTIONS', '/threads/1/runs', true],
  [[['ALL', '/threads/*']], 'GET', '/threads', true],
  [[['ALL', '/threads/*']], 'GET', '/threadsafe', false],
  [[['ALL', '/*']], 'DELETE', '/anything/at%20all', true],
  [[['ALL', '/*']], 'QUERY', '/', true],
  [[], 'GET', '/', false],
])('of %j, %s %s is asked: %s', (routes, method, path, asked) => {
  expect(asks(routes, method, path)).toBe(asked)
})

test('an app without routes that are known is asked everything that a standard request can say', () => {
  const matches = createMatcher(null)
  expect(matches(new Request('http://a.test/threads', { method: 'POST' }))).toBe(true)
  expect(matches({ method: 'TRACE', url: 'http://a.test/' } as Request)).toBe(false)
})

test('it says yes exactly where the app itself does', async () => {
  const patterns = [
    ...['/', '/*', '/a', '/a/', '/a/*', '/a/:x', '/a/:x/b', '/a/:x?', '/:x/b', '/a/:x{[a-c]+}', '/a/*/c', '/ü', '/a b'],
  ]
  const paths = [
    ...['/', '/a', '/a/', '/a//', '//a', '/a/b', '/a/b/', '/a/b/c', '/a/d', '/x/b', '/%61', '/a%2Fb', '/a/%2e%2e/x'],
    ...['/%C3%BC', '/ü', '/a%20b', '/%', '/a/%ff', '/a/b?c', '/a/b#c', '/a/b;c', '/A', '/a/b%00', '/a\\b', '/a/..%2fb'],
  ]
  const differing: string[] = []
  for (const pattern of patterns) {
    for (const on of ['GET', 'POST', 'ALL']) {
      let asked = false
      const app = new Hono().on(on, pattern, (c) => {
        asked = true
        return c.body(null)
      })
      const matches = createMatcher(app.routes)
      for (const path of paths) {
        for (const method of ['GET', 'HEAD', 'POST', 'DELETE']) {
          asked = false
          const request = new Request(`http://a.test${path}`, { method })
          const said = matches(request)
          await app.fetch(request)
          if (said !== asked) differing.push(`${on} ${pattern}: ${method} ${path}`)
        }
      }
    }
  }
  expect(differing).toEqual([])
})
