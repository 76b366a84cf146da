// Runs once around all tests, in vitest's main process: the build that child executors run from, and the servers. Must clean
// up on Ctrl-C and SIGTERM as well as at the end.

import type { TestProject } from 'vitest/node'
import { ensureChromium } from '../../scripts/browser.mjs'
import { ensureBuilt } from '../../scripts/setup.mjs'
import { startServices } from './services.ts'

export async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const { testFiles } = await project.globTestFiles(process.argv.slice(2).filter((arg) => arg.startsWith('test')))
  // Unit tests need neither, and should be quick to run alone.
  if (
    testFiles.length > 0 &&
    testFiles.every((file) => file.includes('/test/unit/') || file.endsWith('architecture.test.ts'))
  )
    return
  try {
    ensureBuilt()
  } catch (error) {
    console.error(`dist is not what src says: ${error instanceof Error ? error.message : error}`)
  }
  // Installed here, where nothing waits for an answer; the test says so where there is none.
  if (testFiles.some((file) => file.endsWith('/browser.test.ts'))) ensureChromium()
  const stop = await startServices()
  const stopAndLeave = (signal: NodeJS.Signals) => {
    void stop().finally(() => process.exit(signal === 'SIGINT' ? 130 : 143))
  }
  process.once('SIGINT', stopAndLeave)
  process.once('SIGTERM', stopAndLeave)
  return stop
}
