// `npm run soak -- --minutes 20 --seed N`: the random nemesis against a small production, and its figures in
// docs/reliability.md. `--figures` measures recovery, hand-off and cancelling instead. Exit code 1 where a law was broken.
// @ts-check

import { parseArgs } from 'node:util'
import { ensureBuilt, ensureDependencies } from './setup.mjs'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e6)) },
    figures: { type: 'boolean', default: false },
  },
})
const minutes = Number(values.minutes)
const seed = Number(values.seed)
if (!(minutes > 0) || !Number.isInteger(seed)) {
  console.error('soak: --minutes takes a number above 0, --seed a whole number')
  process.exit(2)
}
ensureDependencies()
ensureBuilt()
const { register } = await import('tsx/esm/api')
register()
const { runSoak, runFigures } = await import('../test/faults/support/commands.ts')
process.exitCode = (await (values.figures ? runFigures({ seed }) : runSoak({ minutes, seed }))) ? 0 : 1
