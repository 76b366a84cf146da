// Reload on save: watches the project and has the graphs and the custom app loaded anew. In charge of what counts as a save and of saying
// what came of it; must not touch threads, connections or runs.

import { basename, dirname, extname, relative, sep } from 'node:path'
import { watch } from 'chokidar'
import { processVariables } from '../config.ts'
import { messageOf } from '../errors.ts'
import { type Project, readProject } from '../langgraph-json.ts'
import { say } from './serve.ts'

/** What is told to load its graphs and its app anew. */
export interface Reloadable {
  reload(): Promise<readonly { graph_id: string; error?: string }[]>
  app(): { error?: string } | undefined
}

const QUIET_MS = 100
const extensions = ['.ts', '.mts', '.cts', '.tsx', '.js', '.mjs', '.cjs', '.jsx', '.json']
const folders = [
  'node_modules',
  '.git',
  '.heddle',
  '.langgraph_api',
  'dist',
  'build',
  'coverage',
  '.next',
  '.turbo',
  '.cache',
]

/** Watches until closed. Resolves when saves from now on are seen. */
export async function reloadOnSave(options: {
  project: Project
  heddle: Reloadable
  dataDir: string
}): Promise<{ close(): Promise<void> }> {
  const { project, heddle, dataDir } = options
  const codeDirs = [...project.graphs, ...(project.app ? [project.app] : [])].map(({ path }) => dirname(path))
  const roots = [project.dir, ...codeDirs.filter((dir) => relative(project.dir, dir).startsWith('..'))]
  const settings = [project.file, ...(project.envFile === undefined ? [] : [project.envFile])]
  const watcher = watch([...new Set([...roots, ...settings])], {
    ignoreInitial: true,
    ignored: (path, stats) => {
      if (settings.includes(path)) return false
      if (stats?.isFile()) return !extensions.includes(extname(path))
      // A folder that a graph or the app of the project lies in is watched, whatever its name.
      return (
        path === dataDir ||
        (folders.includes(basename(path)) && !codeDirs.some((dir) => `${dir}${sep}`.startsWith(`${path}${sep}`)))
      )
    },
  })
  const saved = new Set<string>()
  let timer: NodeJS.Timeout | undefined
  let last: Promise<void> = Promise.resolve()
  const work = async () => {
    const files = [...saved]
    saved.clear()
    if (files.some((file) => settings.includes(file))) sayRestart(project)
    if (files.some((file) => file !== project.file && file !== project.envFile)) await reload(heddle, files)
  }
  watcher.on('all', (_, path) => {
    saved.add(path)
    clearTimeout(timer)
    timer = setTimeout(() => {
      last = last.then(work)
    }, QUIET_MS)
  })
  watcher.on('error', (error) => say(`Cannot watch for saves: ${messageOf(error)}`))
  await new Promise<void>((resolve) => void watcher.once('ready', resolve))
  return {
    close: async () => {
      clearTimeout(timer)
      await watcher.close()
      await last
    },
  }

  async function reload(target: Reloadable, files: string[]): Promise<void> {
    const began = performance.now()
    const names = files.map((file) => relative(project.dir, file)).slice(0, 3)
    const more = files.length > names.length ? ` and ${files.length - names.length} more` : ''
    try {
      const graphs = await target.reload()
      // What does not load stands in the log by now, with file and line.
      const good = graphs.filter((graph) => graph.error === undefined).length
      const count = good === graphs.length ? `${good}` : `${good} of ${graphs.length}`
      const app = target.app()
      const also = app === undefined ? '' : app.error === undefined ? ' and the app' : ', not the app,'
      const time = Math.round(performance.now() - began)
      say(`Reloaded ${count} graphs${also} in ${time} ms after a change of ${names.join(', ')}${more}`)
    } catch (error) {
      say(`Reloading failed after a change of ${names.join(', ')}${more}: ${messageOf(error)}`)
    }
  }
}

function sayRestart(project: Project): void {
  try {
    const now = readProject(project.file, processVariables())
    const same = JSON.stringify(now) === JSON.stringify(project)
    if (!same) say(`${basename(project.file)} or its env changed: stop and start heddle dev to use it.`)
  } catch (error) {
    say(messageOf(error))
  }
}
