// The entry of the custom app's process. In charge of the process: its pipe, its socket, and what happens to failures that
// belong to no request. Holds no database connection; what it knows of the server is the socket it may ask.

import { AsyncLocalStorage } from 'node:async_hooks'
import { rmSync } from 'node:fs'
import { Socket } from 'node:net'
import { lastWords, startWatchdog } from './control.ts'
import { createHandler } from './custom-handler.ts'
import { createPass } from './custom-pass.ts'
import type { AppReport, AppRequest } from './custom-protocol.ts'
import { type AppExchange, createAppServer } from './custom-server.ts'
import { explain, exportOf } from './exported.ts'
import { stackOf } from './failure.ts'
import type { Work } from './guest.ts'
import { createStreamLink } from './link.ts'
import { createImporter } from './loader.ts'

// What code works for: for the watchdog a request like any other, for what is passed on its client's.
const current = new AsyncLocalStorage<Work>()
const exchanges = new AsyncLocalStorage<AppExchange>()
const watchdog = startWatchdog(current)
const link = createStreamLink<AppReport, AppRequest>(new Socket({ fd: 3, readable: true, writable: true }))

type Load = AppRequest & { type: 'load' }

async function load({ app, project_dir, socket, api }: Load): Promise<{ drain(): Promise<void> } | undefined> {
  const pass = createPass(api)
  // Where the JavaScript client looks for a server in its own process.
  const direct: typeof fetch = (input, init) => {
    const request = new Request(input, init)
    return pass({ request, body: request.body }, { signal: request.signal })
  }
  Object.assign(globalThis, {
    [Symbol.for('langgraph_api:fetch')]: direct,
    [Symbol.for('langgraph_api:url')]: 'http://localhost',
  })
  try {
    const module = await createImporter()(app.path)
    const handler = createHandler(await exportOf(module, app.export), async (unanswered) => {
      const exchange = exchanges.getStore()
      if (exchange?.relay === undefined) return new Response('Not Found', { status: 404 })
      return pass(unanswered, { relay: exchange.relay, signal: exchange.over })
    })
    const server = createAppServer((request, exchange) =>
      current.run({ call: 0 }, () => exchanges.run(exchange, () => handler.fetch(request))),
    )
    await server.listen(socket)
    link.send({ type: 'loaded', routes: handler.routes })
    watchdog.watch()
    return server
  } catch (error) {
    link.send({ type: 'failed', message: explain(error, 'The custom app', app.path, project_dir) })
    return undefined
  }
}

const sayWhy = (code: number) => lastWords(undefined, `called process.exit(${code})`)
const leave = () => {
  process.off('exit', sayWhy)
  process.exit(0)
}

function serve(): void {
  let folder: string | undefined
  let loading: ReturnType<typeof load> = Promise.resolve(undefined)
  link.onFrame(({ head }) => {
    if (head.type === 'drain') void loading.then((server) => server?.drain()).then(leave)
    else {
      folder = head.folder
      loading = load(head)
    }
  })
  link.onClose(() => {
    // The server closes, or was killed and can remove nothing any more.
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
    leave()
  })
}
serve()

// Where Node would end the process, it is said, and the app goes on.
const fail = (what: string, thrown: unknown) => void process.stderr.write(`${what}: ${stackOf(thrown)}\n`)
process.on('unhandledRejection', (reason) => fail('Unhandled rejection', reason))
process.on('uncaughtException', (error) => fail('Uncaught exception', error))
process.on('exit', sayWhy)
// Such signals may reach the whole process group; the parent decides when the process ends, by closing the pipe.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
