// The hooks that web pages are built on, unmodified, in a real browser, against processes as in production. The process that
// serves the pages' requests is killed in the middle of what they show.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { ensureChromium } from '../../scripts/browser.mjs'
import { type Cluster, startCluster } from '../faults/support/cluster.ts'
import { type Browser, type Hook, startBrowser } from '../support/clients/browser.ts'

// Real processes, on machines that may be busy; the browser may have to be installed.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 300_000 })

const config = fileURLToPath(new URL('../support/clients/langgraph.json', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'heddle-browser-test-'))
const hooks: readonly Hook[] = ['sse', 'websocket', 'old']
const story = Array.from({ length: 24 }, (_, i) => `word${i} `).join('')
const chromium = ensureChromium()
let cluster: Cluster
let browser: Browser
beforeAll(async () => {
  if ('reason' in chromium) return console.warn(`The pages are not tested: ${chromium.reason}.`)
  cluster = await startCluster({ members: { works: 'all', api: 'api' }, config })
  browser = await startBrowser(chromium.path)
})
afterAll(async () => {
  await browser?.close()
  await cluster?.close()
  rmSync(folder, { recursive: true, force: true })
})

test('pages whose server is killed and started again end like pages that were left alone', async ({ skip }) => {
  if ('reason' in chromium) return skip(chromium.reason)
  const api = cluster.member('api')
  const gates = { undisturbed: join(folder, 'undisturbed'), disturbed: join(folder, 'disturbed') }
  const tell = (gate: string) =>
    Promise.all(
      hooks.map(async (hook) => {
        const chat = await browser.open({ api: api.url, assistant: 'agent', hook })
        await chat.say(`story ${gate}`)
        await chat.shows('half of the story', ({ messages }) => messages[1]?.includes('word11') === true)
        return chat
      }),
    )
  const whole = ({ messages, busy }: { messages: string[]; busy: boolean }) =>
    !busy && messages[1]?.includes('word23') === true

  const left = await tell(gates.undisturbed)
  writeFileSync(gates.undisturbed, '')
  const undisturbed = await Promise.all(left.map((chat) => chat.shows('the whole story', whole)))

  const chats = await tell(gates.disturbed)
  await api.stop('SIGKILL')
  await api.start()
  writeFileSync(gates.disturbed, '')
  const disturbed = await Promise.all(chats.map((chat) => chat.shows('the whole story', whole)))
  const expected = (gate: string) => ({
    messages: [`human: story ${gate}`, `ai: ${story}`],
    calls: [],
    questions: [],
    error: '',
    busy: false,
  })
  expect(undisturbed).toEqual(hooks.map(() => expected(gates.undisturbed)))
  expect(disturbed).toEqual(hooks.map(() => expected(gates.disturbed)))

  // A page that is loaded again shows the thread as it is, and goes on with it.
  const call = 'weather finished sunny in Oslo'
  for (const [i, chat] of chats.entries()) {
    await chat.reload()
    expect(await chat.shows('the thread', whole)).toEqual(expected(gates.disturbed))
    await chat.say('weather Oslo')
    const { messages, calls, error } = await chat.shows(
      'the weather',
      ({ messages, busy }) => !busy && messages.at(-1) === 'ai: It is sunny in Oslo.',
    )
    expect(messages.slice(2)).toEqual([
      'human: weather Oslo',
      'ai: ',
      'tool: sunny in Oslo',
      'ai: It is sunny in Oslo.',
    ])
    expect([calls, error]).toEqual([hooks[i] === 'old' ? [] : [call], ''])
  }
})

test('pages show questions, and answer them together', async ({ skip }) => {
  if ('reason' in chromium) return skip(chromium.reason)
  const ask = hooks.map(async (hook) => {
    const chat = await browser.open({ api: cluster.member('api').url, assistant: 'approval', hook })
    await chat.say('may we?')
    const asked = await chat.shows(
      'the questions',
      ({ messages, questions, busy }) => !busy && messages.length === 1 && questions.length === 2,
    )
    await chat.answer()
    return [asked, await chat.shows('the end', ({ messages, busy }) => !busy && messages.at(-1) === 'ai: closed')]
  })
  const questions = ['{"question":"Ada?"}', '{"question":"Bob?"}']
  for (const [asked, answered] of await Promise.all(ask)) {
    expect(asked).toMatchObject({ messages: ['human: may we?'], questions, error: '' })
    const messages = ['human: may we?', 'ai: Ada: yes', 'ai: Bob: yes', 'ai: closed']
    expect(answered).toEqual({ messages, calls: [], questions: [], error: '', busy: false })
  }
})
