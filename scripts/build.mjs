// `npm run build`: compiles src to dist. Does nothing when dist is already what the sources say.
// @ts-check

import { ensureBuilt, ensureDependencies } from './setup.mjs'

try {
  ensureDependencies()
  ensureBuilt()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}
