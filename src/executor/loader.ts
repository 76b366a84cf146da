// Loads a graph's file, whatever it is written in. In charge of registering the TypeScript hooks, and only when a file needs
// them, because the compiler costs start-up time and memory.

import { existsSync } from 'node:fs'
import { register } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** Imports a module by absolute path. `version` above 0 reads the file itself anew. */
export type ImportFile = (path: string, version?: number) => Promise<Record<string, unknown>>

// Hooks run in a thread of their own, from built code.
const HOOKS = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/executor/loader-hooks.js' : './loader-hooks.js',
  import.meta.url,
)

/** Makes the function that imports graphs' files. */
export function createImporter(): ImportFile {
  let registered = false
  return async (path, version = 0) => {
    if (!existsSync(path)) throw new Error(`The file ${path} does not exist`)
    if (!registered && /\.([cm]?ts|[jt]sx)$/.test(path)) {
      if (!existsSync(fileURLToPath(HOOKS))) throw new Error('TypeScript needs the built code: run "npm run build"')
      register(HOOKS)
      process.setSourceMapsEnabled(true)
      registered = true
    }
    return import(`${pathToFileURL(path).href}${version > 0 ? `?load=${version}` : ''}`)
  }
}
