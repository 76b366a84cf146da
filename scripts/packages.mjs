// Programs that tests need beside Node: where they are, and installing Debian's packages where that can be done without asking.
// Says one line for what it installs; must never start a service, nor ask anything.
// @ts-check

import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** The file of a program in PATH or where systems keep it. @param {string} name @returns {string | undefined} */
export function inPath(name) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/bin', '/usr/local/bin']
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path))
}

/** Whether packages can be installed here: as root, on Debian and its kin. @returns {boolean} */
export function canInstall() {
  return process.getuid?.() === 0 && inPath('apt-get') !== undefined
}

/** Installs packages; throws with what apt-get said. @param {readonly string[]} packages */
export function install(packages) {
  console.log(`Installing ${packages.join(' and ')} (apt-get)`)
  const options = {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    encoding: /** @type {const} */ ('utf8'),
  }
  const how = ['-y', '-qq', '--no-install-recommends', '-o', 'Dpkg::Options::=--force-confold']
  withoutStartingServices(() => {
    spawnSync('apt-get', ['update', '-qq'], options)
    const done = spawnSync('apt-get', ['install', ...how, ...packages], options)
    if (done.status !== 0) throw new Error(`apt-get install ${packages.join(' ')} failed: ${done.stderr.trim()}`)
  })
}

/** Debian's packages start a server of their own, unless told not to. @param {() => void} work */
function withoutStartingServices(work) {
  const policy = '/usr/sbin/policy-rc.d'
  const isOurs = !existsSync(policy)
  if (isOurs) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    work()
  } finally {
    if (isOurs) rmSync(policy, { force: true })
  }
}
