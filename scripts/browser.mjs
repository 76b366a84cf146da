// The browser that tests of web pages drive: a Chromium that is installed, or that can be. In charge of finding it, of the
// options with which it runs unattended, and of saying in one sentence why there is none.
// @ts-check

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { canInstall, inPath, install } from './packages.mjs'

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']
const places = [
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
]

/** It runs as root in containers too, and asks nobody outside for anything. @type {readonly string[]} */
export const browserOptions = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** The file of a Chromium that runs; installs Debian's where none does. @returns {{ path: string } | { reason: string }} */
export function ensureChromium() {
  const present = findChromium()
  if (present) return { path: present }
  if (!canInstall()) return { reason: 'there is no Chromium here, and it can be installed only by root on Debian' }
  try {
    install(['chromium'])
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) }
  }
  const installed = findChromium()
  return installed ? { path: installed } : { reason: 'the Chromium that apt-get installed does not run' }
}

function findChromium() {
  const found = [...names.map(inPath), ...places].filter((path) => path !== undefined && existsSync(path))
  // What some systems install under these names only says how to get one.
  return found.find((path) => spawnSync(/** @type {string} */ (path), ['--version']).status === 0)
}
