// A private Python environment with the Python client in it. In charge of finding a Python that can make one, of keeping it for
// the next run, and of saying in one sentence why there is none.

import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const CANDIDATES = ['python3', 'python3.14', 'python3.13', 'python3.12', 'python3.11', 'python3.10', 'python']
const CAN = 'import sys, venv, ensurepip; sys.exit(0 if sys.version_info >= (3, 10) else 1)'

/** The interpreter of an environment that has exactly this release of a package, or why there is none. */
export async function pythonWith(requirement: string): Promise<{ python: string } | { reason: string }> {
  const folder = join(tmpdir(), `heddle-python-${requirement.replaceAll(/[^\w.]+/g, '-')}-${userInfo().uid}`)
  const pythonIn = (home: string) => join(home, 'bin', 'python')
  if (existsSync(pythonIn(folder))) return { python: pythonIn(folder) }
  const found = await firstThat(CANDIDATES, (name) => run(name, ['-c', CAN]))
  if (found === undefined) return { reason: 'there is no Python 3.10 or newer with venv and pip here' }
  // Made aside, so that nobody ever sees half of one.
  const made = mkdtempSync(`${folder}-`)
  try {
    await run(found, ['-m', 'venv', made])
    const options = ['--quiet', '--disable-pip-version-check', '--timeout', '15', '--retries', '1']
    await run(pythonIn(made), ['-m', 'pip', 'install', ...options, requirement], { timeout: 120_000 })
    renameSync(made, folder)
  } catch (error) {
    rmSync(made, { recursive: true, force: true })
    if (existsSync(pythonIn(folder))) return { python: pythonIn(folder) }
    const said = (error as { stderr?: string }).stderr?.trim().split('\n').at(-1)
    return { reason: `pip could not install ${requirement}: ${said || (error as Error).message}` }
  }
  return { python: pythonIn(folder) }
}

async function firstThat<T>(items: readonly T[], works: (item: T) => Promise<unknown>): Promise<T | undefined> {
  for (const item of items) {
    const good = await works(item).then(
      () => true,
      () => false,
    )
    if (good) return item
  }
  return undefined
}
