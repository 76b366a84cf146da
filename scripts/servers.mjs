// Private Postgres and Redis servers for tests and benchmarks. In charge of finding or installing the binaries, starting them
// on free ports in a temporary folder and leaving nothing behind; must never touch a server it did not start.
// @ts-check

import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { canInstall, inPath, install } from './packages.mjs'

const keeper = fileURLToPath(new URL('keeper.mjs', import.meta.url))

/**
 * `stop` resolves when the process and its files are gone. `crash` ends it with no time to clean up, and resolves when
 * it takes no connections; `restart` starts it again on the same port with what it had written.
 * @typedef {{ uri: string, stop: () => Promise<void>, crash: () => Promise<void>, restart: () => Promise<void> }} Server
 */

/** Starts a private Postgres. Durable only with `fsync`; `onLog` gets its log. @param {{ fsync?: boolean, onLog?: (text: string) => void }} [options] @returns {Promise<Server>} */
export async function startPostgres({ fsync = false, onLog } = {}) {
  ensureInstalled()
  const bin = postgresBin()
  if (!bin) throw new Error(howToInstall('Postgres 15 or newer'))
  const user = unprivileged()
  const folder = temporaryFolder('heddle-postgres-', user)
  const init = [
    join(bin, 'initdb'),
    '-D',
    folder,
    '-U',
    'heddle',
    '--auth=trust',
    '--no-sync',
    '--encoding=UTF8',
    '--locale=C',
  ]
  const made = spawnSync(/** @type {string} */ (init[0]), init.slice(1), { ...user, cwd: folder, encoding: 'utf8' })
  if (made.status !== 0) throw new Error(`initdb failed: ${made.error?.message ?? made.stderr}`)
  const port = await freePort()
  const settings = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: 200,
    shared_buffers: '128MB',
    fsync: fsync ? 'on' : 'off',
    full_page_writes: fsync ? 'on' : 'off',
  }
  const args = [
    '-D',
    folder,
    '-p',
    `${port}`,
    ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`]),
  ]
  const server = keep('Postgres', join(bin, 'postgres'), args, folder, user, onLog)
  const ready = () => server.ready(() => postgresAnswers(port))
  await ready()
  return {
    uri: `postgres://heddle@127.0.0.1:${port}/postgres`,
    stop: server.stop,
    // What `pg_ctl stop -m immediate` sends.
    crash: () => server.crash('SIGQUIT', port),
    restart: () => server.restart(ready),
  }
}

/** Starts a private Redis without persistence, or a cluster of one. @param {{ cluster?: boolean }} [options] @returns {Promise<Server>} */
export async function startRedis({ cluster = false } = {}) {
  ensureInstalled()
  const binary = inPath('redis-server') ?? inPath('valkey-server')
  if (!binary) throw new Error(howToInstall('Redis'))
  const user = unprivileged()
  const folder = temporaryFolder('heddle-redis-', user)
  const port = await freePort()
  const args = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder]
  if (cluster) args.push('--cluster-enabled', 'yes', '--cluster-port', `${await freePort()}`)
  const server = keep('Redis', binary, args, folder, user)
  await server.ready(() => answers(port, 'PING\r\n', '+PONG'))
  if (cluster) {
    await answers(port, 'CLUSTER ADDSLOTSRANGE 0 16383\r\n', '+OK')
    await server.ready(() => answers(port, 'CLUSTER INFO\r\n', /cluster_state:ok/))
  }
  return {
    uri: `redis://127.0.0.1:${port}`,
    stop: server.stop,
    crash: () => server.crash('SIGKILL', port),
    restart: () => server.restart(() => server.ready(() => answers(port, 'PING\r\n', '+PONG'))),
  }
}

/** The versions of the installed binaries, one a line. */
export function serverVersions() {
  const bin = postgresBin()
  const redis = inPath('redis-server') ?? inPath('valkey-server')
  const version = (/** @type {string} */ file) => spawnSync(file, ['--version'], { encoding: 'utf8' }).stdout.trim()
  return [
    bin ? version(join(bin, 'postgres')) : 'postgres: not installed',
    redis ? version(redis) : 'redis: not installed',
  ]
}

/** @param {string} name @param {string} binary @param {string[]} args @param {string} folder @param {{uid?: number, gid?: number}} user @param {(text: string) => void} [onLog] */
function keep(name, binary, args, folder, user, onLog) {
  const child = spawn(process.execPath, [keeper, folder, JSON.stringify(user), binary, ...args], {
    cwd: folder,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let output = ''
  const remember = (/** @type {Buffer} */ chunk) => {
    output = (output + chunk).slice(-4000)
    onLog?.(String(chunk))
  }
  child.stdout.on('data', remember)
  child.stderr.on('data', remember)
  const gone = new Promise((resolve) => child.on('exit', resolve))
  const stop = async () => {
    child.stdin.end()
    await gone
  }
  /** @param {() => Promise<boolean>} answers */
  const ready = async (answers) => {
    for (const end = Date.now() + 30_000; Date.now() < end && child.exitCode === null; ) {
      if (await answers()) return
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    await stop()
    throw new Error(`${name} did not start: ${output.trim()}`)
  }
  /** @param {NodeJS.Signals} signal @param {number} port */
  const crash = async (signal, port) => {
    child.stdin.write(`${signal}\n`)
    while (await takesConnections(port)) await new Promise((resolve) => setTimeout(resolve, 10))
  }
  /** @param {() => Promise<void>} isReady */
  const restart = async (isReady) => {
    child.stdin.write('start\n')
    await isReady()
  }
  return { stop, ready, crash, restart }
}

/** A user's numbers to run servers as: Postgres refuses root. @returns {{uid?: number, gid?: number}} */
function unprivileged() {
  if (process.getuid?.() !== 0) return {}
  for (const name of ['postgres', 'nobody', 'daemon']) {
    const ids = ['-u', '-g'].map((flag) => spawnSync('id', [flag, name], { encoding: 'utf8' }))
    const [uid, gid] = ids.map((found) => (found.status === 0 ? Number(found.stdout) : undefined))
    if (uid && gid !== undefined) return { uid, gid }
  }
  throw new Error('Postgres does not run as root, and no other user (postgres, nobody, daemon) exists here: add one.')
}

/** @param {string} prefix @param {{uid?: number, gid?: number}} user */
function temporaryFolder(prefix, user) {
  // Another user must be able to enter it: a private TMPDIR of root's would not do.
  const parent = user.uid !== undefined && existsSync('/tmp') ? '/tmp' : tmpdir()
  const folder = mkdtempSync(join(parent, prefix))
  if (user.uid !== undefined && user.gid !== undefined) chownSync(folder, user.uid, user.gid)
  chmodSync(folder, 0o700)
  return folder
}

/** The folder of the newest Postgres that is installed. */
function postgresBin() {
  const base = '/usr/lib/postgresql'
  const versions = existsSync(base) ? readdirSync(base).sort((a, b) => Number(b) - Number(a)) : []
  const folders = versions.map((version) => join(base, version, 'bin'))
  const path = (process.env.PATH ?? '').split(delimiter)
  return [...folders, ...path].find((folder) => ['initdb', 'postgres'].every((file) => existsSync(join(folder, file))))
}

/** Installs what is missing where that can be done without asking. */
function ensureInstalled() {
  /** @type {string[]} */
  const missing = []
  if (!postgresBin()) missing.push('postgresql')
  if (!inPath('redis-server') && !inPath('valkey-server')) missing.push('redis-server')
  if (missing.length === 0 || !canInstall()) return
  // Debian's Postgres makes a cluster of its own, unless told not to.
  const cluster = '/etc/postgresql-common/createcluster.conf'
  if (!existsSync(cluster)) {
    mkdirSync('/etc/postgresql-common', { recursive: true })
    writeFileSync(cluster, 'create_main_cluster = false\n')
  }
  install(missing)
}

/** Installs pgvector beside the installed Postgres, where apt has it; tests that need it say so where it has not. */
export function ensureVectors() {
  const version = /^\/usr\/lib\/postgresql\/(\d+)\/bin$/.exec(postgresBin() ?? '')?.[1]
  if (version === undefined || existsSync(`/usr/share/postgresql/${version}/extension/vector.control`)) return
  const name = `postgresql-${version}-pgvector`
  if (!canInstall() || !spawnSync('apt-cache', ['show', name], { encoding: 'utf8' }).stdout) return
  try {
    install([name])
  } catch (error) {
    console.warn(error instanceof Error ? error.message : error)
  }
}

/** @param {string} what */
const howToInstall = (what) =>
  `${what} is needed and not installed here. Install it (Debian: apt-get install postgresql redis-server; macOS: brew install ` +
  'postgresql redis), or point TEST_DATABASE_URI and TEST_REDIS_URI at servers that may be written to.'

/** A port nobody listens on at this moment. @returns {Promise<number>} */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(address && typeof address === 'object' ? address.port : 0))
    })
  })
}

/** @param {number} port @returns {Promise<boolean>} */
function takesConnections(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const done = (/** @type {boolean} */ yes) => {
      socket.destroy()
      resolve(yes)
    }
    socket.on('connect', () => done(true)).on('error', () => done(false))
  })
}

/** Sends a start-up packet: Postgres answers 'R' (authentication) once it takes connections, 'E' while it starts. @param {number} port */
function postgresAnswers(port) {
  const text = Buffer.from('user\0heddle\0database\0postgres\0\0')
  const head = Buffer.alloc(8)
  head.writeInt32BE(8 + text.length, 0)
  head.writeInt32BE(196608, 4)
  return answers(port, Buffer.concat([head, text]), 'R')
}

/** @param {number} port @param {Buffer | string} question @param {string | RegExp} expected the answer's beginning, or part of it @returns {Promise<boolean>} */
function answers(port, question, expected) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(question))
    const done = (/** @type {boolean} */ yes) => {
      socket.destroy()
      resolve(yes)
    }
    socket.setTimeout(1000, () => done(false))
    socket.on('data', (data) => {
      const text = data.toString('latin1')
      done(typeof expected === 'string' ? text.startsWith(expected) : expected.test(text))
    })
    socket.on('error', () => done(false))
    socket.on('close', () => done(false))
  })
}
