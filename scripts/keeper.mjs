// Runs one command in a temporary folder and, when its own standard input closes, stops it and removes the folder: that
// happens even when whoever started it was killed with -9. In charge of nothing outliving a test run.
// @ts-check

import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'

const [folder = '', user = '{}', command = '', ...args] = process.argv.slice(2)
// Only the server runs as the other user: that one may not be able to read this file, or even Node's.
const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'], cwd: folder, ...JSON.parse(user) })
const leave = (/** @type {number} */ code) => {
  process.chdir('/')
  rmSync(folder, { recursive: true, force: true })
  process.exit(code)
}
child.on('error', (error) => {
  console.error(error.message)
  leave(127)
})
child.on('exit', (code) => leave(code ?? 1))
// A terminal's Ctrl-C reaches the whole group: the end of input decides, so that servers outlast the tests' own cleaning up.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGINT'))
process.stdin.on('end', () => {
  // SIGINT is Postgres's fast shutdown, and Redis takes it as well.
  child.kill('SIGINT')
  setTimeout(() => child.kill('SIGKILL'), 5000).unref()
})
process.stdin.resume()
