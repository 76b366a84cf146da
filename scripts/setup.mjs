// What a fresh clone lacks: dependencies and the build. In charge of noticing what is missing or stale and mending it with
// one line said; runs before node_modules exists, so it must import nothing but Node, and must never change a tracked file.
// @ts-check

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The repository's folder. */
export const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')

const stamp = join(root, 'dist', '.built')

/** Installs dependencies when node_modules is missing or does not hold what the lock file names. */
export function ensureDependencies() {
  if (dependenciesPresent()) return
  // npm would empty what the link points to, for everybody who shares it.
  if (lstatSync(join(root, 'node_modules'), { throwIfNoEntry: false })?.isSymbolicLink()) {
    console.log('node_modules is a link and does not hold what package-lock.json names: install where it points to')
    return
  }
  const command = existsSync(join(root, 'package-lock.json')) ? 'ci' : 'install'
  console.log(`Installing dependencies (npm ${command})`)
  run('npm', [command, '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'])
}

/** Builds when dist is missing or was made from other sources. */
export function ensureBuilt() {
  if (isBuilt()) return
  console.log('Building (tsc)')
  build()
}

/** True while dist holds what the present sources compile to. */
export function isBuilt() {
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === sourceHash()
}

/** Compiles src to dist, copies what is not TypeScript, and removes what has no source any more. Throws on type errors. */
export function build() {
  const hash = sourceHash()
  rmSync(stamp, { force: true })
  const kept = new Set()
  for (const file of sources()) {
    const target = join(root, 'dist', relative(join(root, 'src'), file))
    if (!file.endsWith('.ts')) {
      mkdirSync(dirname(target), { recursive: true })
      cpSync(file, target)
      kept.add(target)
    } else for (const ending of ['.js', '.js.map', '.d.ts']) kept.add(target.replace(/\.ts$/, ending))
  }
  for (const file of filesIn(join(root, 'dist'))) if (!kept.has(file) && !file.endsWith('.tsbuildinfo')) rmSync(file)
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  run(process.execPath, [tsc, '-p', 'tsconfig.json', '--incremental', '--tsBuildInfoFile', 'dist/.tsbuildinfo'])
  writeFileSync(stamp, hash)
}

function dependenciesPresent() {
  const wanted = lockedPackages(join(root, 'package-lock.json'))
  const present = lockedPackages(join(root, 'node_modules', '.package-lock.json'))
  if (!wanted || !present) return false
  return Object.entries(wanted).every(([path, entry]) => {
    const found = present[path]
    // Optional ones are for other platforms, or not installed on purpose.
    return path === '' || (found ? found.version === entry.version : entry.optional || entry.peer)
  })
}

/** @param {string} file @returns {Record<string, {version?: string, optional?: boolean, peer?: boolean}> | undefined} */
function lockedPackages(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).packages : undefined
}

function sources() {
  return filesIn(join(root, 'src')).sort()
}

function sourceHash() {
  const hash = createHash('sha256')
  for (const file of [...sources(), join(root, 'tsconfig.json'), join(root, 'package-lock.json')]) {
    if (existsSync(file)) hash.update(file.slice(root.length)).update('\0').update(readFileSync(file)).update('\0')
  }
  return hash.digest('hex')
}

/** @param {string} folder @returns {string[]} */
function filesIn(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

/** Runs a command in the repository, showing its output; throws when it fails. @param {string} command @param {string[]} args */
export function run(command, args) {
  const done = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (done.error) throw new Error(`${command} could not be started: ${done.error.message}`)
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')} failed (${done.signal ?? done.status})`)
}
