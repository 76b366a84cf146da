// Runs one command in a temporary folder and, when its own standard input closes, stops it and removes the folder: that
// happens even when whoever started it was killed with -9. A line on standard input that names a signal crashes the
// command, and `start` runs it again. In charge of nothing outliving a test run.
// @ts-check

import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { createInterface } from 'node:readline'

const [folder = '', user = '{}', command = '', ...args] = process.argv.slice(2)
/** Children that were crashed: their end is not the end. @type {WeakSet<import('node:child_process').ChildProcess>} */
const crashed = new WeakSet()
let child = start()

function start() {
  // Only the server runs as the other user: that one may not be able to read this file, or even Node's.
  const started = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'], cwd: folder, ...JSON.parse(user) })
  started.on('error', (error) => {
    console.error(error.message)
    leave(127)
  })
  started.on('exit', (code) => {
    if (!crashed.has(started)) leave(code ?? 1)
  })
  return started
}

function isGone() {
  return child.exitCode !== null || child.signalCode !== null
}

function leave(/** @type {number} */ code) {
  process.chdir('/')
  rmSync(folder, { recursive: true, force: true })
  process.exit(code)
}

// A terminal's Ctrl-C reaches the whole group: the end of input decides, so that servers outlast the tests' own cleaning up.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGINT'))
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line !== 'start') {
      crashed.add(child)
      child.kill(/** @type {NodeJS.Signals} */ (line))
    } else if (isGone()) child = start()
    else child.once('exit', () => (child = start()))
  })
  .on('close', () => {
    if (isGone()) return leave(0)
    crashed.delete(child)
    // SIGINT is Postgres's fast shutdown, and Redis takes it as well.
    child.kill('SIGINT')
    setTimeout(() => child.kill('SIGKILL'), 5000).unref()
  })
