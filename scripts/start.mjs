// `npm start`: serves the examples at http://127.0.0.1:8123 from a fresh clone. Sets up what is missing, then becomes
// `heddle dev` in this very process, so that signals and the exit code need no passing on.
// @ts-check

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ensureBuilt, ensureDependencies, root } from './setup.mjs'

try {
  ensureDependencies()
  ensureBuilt()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}
const bin = join(root, 'bin', 'heddle.js')
const config = join(root, 'examples', 'langgraph.json')
process.argv = [
  process.execPath,
  bin,
  'dev',
  '--config',
  config,
  '--host',
  '127.0.0.1',
  '--port',
  '8123',
  ...process.argv.slice(2),
]
await import(pathToFileURL(bin).href)
