// `npm test`: types, lint and format, then every test, then one plain line of counts. Arguments are vitest's file filters
// (`npm test -- test/unit`), and then only the tests run. Sets up what is missing.
// @ts-check

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensureBuilt, ensureDependencies, root } from './setup.mjs'

const filters = process.argv.slice(2)
const counts = { passed: 0, failed: 0, skipped: 0 }

try {
  ensureDependencies()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}
step('build', () => {
  ensureBuilt()
  return true
})
if (filters.length === 0) {
  step('types', () => npmRun('check:types'))
  step('lint and format', () => npmRun('check:style'))
}
await vitest()
const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''
console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`)
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0

/** A check counts as one test. @param {string} name @param {() => boolean} work */
function step(name, work) {
  let ok = false
  try {
    ok = work()
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
  }
  console.log(`${ok ? '✓' : '✗'} ${name}`)
  counts[ok ? 'passed' : 'failed'] += 1
}

/** @param {string} name */
function npmRun(name) {
  return spawnSync('npm', ['run', '--silent', name], { cwd: root, stdio: 'inherit' }).status === 0
}

/** Runs vitest and adds its counts; what fails outside any test counts as one failure. */
async function vitest() {
  const folder = mkdtempSync(join(tmpdir(), 'heddle-test-'))
  const report = join(folder, 'report.json')
  const bin = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  const args = [bin, 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...filters]
  const child = spawn(process.execPath, args, { cwd: root, stdio: 'inherit' })
  // Ctrl-C reaches vitest by itself; this process only waits for it to clean up. A kill of this process alone is passed on.
  const ignore = () => {}
  const passOn = () => child.kill('SIGTERM')
  process.on('SIGINT', ignore).on('SIGTERM', passOn)
  const code = await new Promise((resolve) => child.on('exit', (status) => resolve(status ?? 1)))
  const before = counts.failed
  if (existsSync(report)) {
    const result = JSON.parse(readFileSync(report, 'utf8'))
    counts.passed += result.numPassedTests
    counts.failed += result.numFailedTests
    counts.skipped += result.numPendingTests + result.numTodoTests
    for (const file of result.testResults) {
      if (
        file.status === 'failed' &&
        !file.assertionResults.some((/** @type {{status: string}} */ t) => t.status === 'failed')
      ) {
        counts.failed += 1
      }
    }
  }
  if (code !== 0 && counts.failed === before) counts.failed += 1
  rmSync(folder, { recursive: true, force: true })
}
