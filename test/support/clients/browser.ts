// A real browser for the chat page: bundles the page, serves it from an origin of its own, and drives a Chromium that
// starts with an empty profile. In charge of what a person does on the page and reads from it.

import { once } from 'node:events'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { chromium, type Page } from 'playwright-core'
import { browserOptions } from '../../../scripts/browser.mjs'

const root =
  '<!doctype html><meta charset="utf-8"><title>Chat</title><div id="root"></div><script src="/page.js"></script>'

export type Hook = 'sse' | 'websocket' | 'old'

/** What a page shows. */
export interface Shown {
  messages: string[]
  calls: string[]
  questions: string[]
  error: string
  busy: boolean
}

/** A chat in a window. */
export interface Chat {
  readonly page: Page
  /** Types words and sends them. */
  say(words: string): Promise<void>
  /** Answers every question with "yes". */
  answer(): Promise<void>
  shown(): Promise<Shown>
  /** Resolves with what is shown once it fits; fails with what is shown instead. */
  shows(what: string, fits: (shown: Shown) => boolean): Promise<Shown>
  reload(): Promise<void>
}

export interface Browser {
  /** Opens the page in a new window, with a hook, for an assistant of a server. */
  open(options: { api: string; assistant: string; hook: Hook; thread?: string }): Promise<Chat>
  close(): Promise<void>
}

/** Starts the browser at a path. */
export async function startBrowser(executablePath: string): Promise<Browser> {
  const script = await bundle()
  const server = createServer((request, response) => {
    const isScript = request.url === '/page.js'
    response.writeHead(200, { 'content-type': `${isScript ? 'text/javascript' : 'text/html'}; charset=utf-8` })
    response.end(isScript ? script : root)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const origin = `http://127.0.0.1:${address && typeof address === 'object' ? address.port : 0}`
  const browser = await chromium.launch({ executablePath, headless: true, args: [...browserOptions] })
  return {
    // A window of its own: what is behind others is slowed down.
    open: async (options) => openChat(await browser.newContext().then((context) => context.newPage()), origin, options),
    async close() {
      await browser.close()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function bundle(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('page.tsx', import.meta.url))],
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'browser',
    target: 'es2022',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'error',
  })
  return outputFiles[0]?.text ?? ''
}

async function openChat(
  page: Page,
  origin: string,
  { api, assistant, hook, thread }: { api: string; assistant: string; hook: Hook; thread?: string },
): Promise<Chat> {
  const said: string[] = []
  page.on('console', (message) => said.push(`${message.type()}: ${message.text()}`))
  page.on('pageerror', (error) => said.push(String(error)))
  const query = new URLSearchParams({ api, assistant, ...(thread === undefined ? {} : { thread }) })
  query.set(...((hook === 'old' ? ['hook', 'old'] : ['transport', hook]) as [string, string]))
  await page.goto(`${origin}/?${query}`)
  const list = (id: string) => page.locator(`#${id} li`).allTextContents()
  const shown = async (): Promise<Shown> => ({
    messages: await list('messages'),
    calls: await list('calls'),
    questions: await list('questions'),
    error: (await page.getByRole('alert').textContent()) ?? '',
    busy: (await page.locator('main').getAttribute('aria-busy')) === 'true',
  })
  return {
    page,
    async say(words) {
      await page.getByRole('textbox').fill(words)
      await page.getByRole('button', { name: 'Say' }).click()
    },
    answer: () => page.getByRole('button', { name: 'Yes to all' }).click(),
    shown,
    async shows(what, fits) {
      let last: Shown | undefined
      for (const end = Date.now() + 60_000; Date.now() < end; ) {
        last = await shown()
        if (fits(last)) return last
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      throw new Error(`${hook}: ${what} is not shown, but ${JSON.stringify(last)}; the page said ${said.join('\n')}`)
    },
    async reload() {
      await page.reload()
    },
  }
}
