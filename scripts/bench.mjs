// `npm run bench`: reruns the comparison of Heddle (embedded; on Postgres and Redis) with the floor, the same graphs without
// any server, on private servers, and writes bench/RESULTS.md. Give it the machine for itself.
//
//   npm run bench -- [--repeat 1] [--seconds 4] [--scenario thread_wait,pickup]
// @ts-check

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, release, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { freePort, serverVersions, startPostgres, startRedis } from './servers.mjs'
import { ensureBuilt, ensureDependencies, root } from './setup.mjs'

const { values: args } = parseArgs({
  options: {
    repeat: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '4' },
    scenario: { type: 'string' },
    out: { type: 'string', default: join(root, 'bench', 'RESULTS.md') },
  },
})
const BY_HAND = '## With the other scripts'
const bench = join(root, 'bench')
const folder = mkdtempSync(join(tmpdir(), 'heddle-bench-'))

ensureDependencies()
ensureBuilt()
if (!existsSync(join(bench, 'node_modules'))) {
  console.log('Installing the benchmark (npm ci)')
  must('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {})
}
// Durable, as in production: a database that forgets would flatter.
const postgres = await startPostgres({ fsync: true })
const redis = await startRedis()
const stop = async () => {
  await Promise.all([postgres.stop(), redis.stop()])
  rmSync(folder, { recursive: true, force: true })
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => void stop().finally(() => process.exit(130)))

/** @type {Record<string, string[]>} */
const columns = {
  'floor memory': [],
  'floor pg': [],
  'floor pg exit': [],
  'Heddle embedded': [],
  'Heddle pg+redis': [],
}
try {
  for (let round = 1; round <= Number(args.repeat); round++) {
    floor(round)
    await heddle('Heddle embedded', round, 'dev --no-reload', join(folder, 'data'))
    await heddle('Heddle pg+redis', round, 'start')
  }
  const checkpoints = args.scenario ? [] : compareCheckpoints()
  writeFileSync(/** @type {string} */ (args.out), results(checkpoints))
  console.log(`Wrote ${args.out}`)
} finally {
  await stop()
}

/** @param {number} round */
function floor(round) {
  const file = join(folder, `floor-${round}.json`)
  must('node', ['reset.mjs', postgres.uri], {})
  must('node', ['floor.mjs', '--postgres', postgres.uri, '--seconds', seconds(), '--json', file, ...chosen()], {})
  columns['floor memory']?.push(`${file}#memory`)
  columns['floor pg']?.push(`${file}#postgres`)
  columns['floor pg exit']?.push(`${file}#postgres_exit`)
}

/** A fresh server and empty data for each scenario. @param {string} name @param {number} round @param {string} command @param {string} [dataDir] */
async function heddle(name, round, command, dataDir) {
  const port = await freePort()
  const file = join(folder, `${name.replaceAll(/\W/g, '-')}-${round}.json`)
  const config = join(bench, 'graphs', 'langgraph.json')
  const server = `node ${join(root, 'bin', 'heddle.js')} ${command} --config ${config} --host 127.0.0.1 --port ${port}`
  const before = dataDir ? `rm -rf ${dataDir}` : `node reset.mjs ${postgres.uri}`
  const run = [
    'bench.mjs',
    '--url',
    `http://127.0.0.1:${port}`,
    '--label',
    name,
    '--seconds',
    seconds(),
    '--json',
    file,
  ]
  const spawn = ['--spawn', dataDir ? `${server} --data-dir ${dataDir}` : server, '--before', before, '--workers', '10']
  const log = ['--log', join(folder, `${name.replaceAll(/\W/g, '-')}.log`)]
  must(
    'node',
    [...run, ...spawn, ...log, ...chosen()],
    dataDir ? {} : { DATABASE_URI: postgres.uri, REDIS_URI: redis.uri },
  )
  columns[name]?.push(file)
}

/** The saver beside the stock one. @returns {Record<string, number>[]} */
function compareCheckpoints() {
  const file = join(folder, 'checkpoints.json')
  must('node', ['checkpoints.mjs', '--postgres', postgres.uri, '--json', file], {})
  return JSON.parse(readFileSync(file, 'utf8'))
}

/** What was measured with the other scripts of bench/ is written by hand, and stays. */
function byHand() {
  const file = /** @type {string} */ (args.out)
  const before = existsSync(file) ? readFileSync(file, 'utf8') : ''
  const at = before.indexOf(BY_HAND)
  return at === -1 ? '' : `\n${before.slice(at)}`
}

/** @param {Record<string, number>[]} checkpoints */
function results(checkpoints) {
  const table = spawnSync(
    'node',
    ['summarize.mjs', ...Object.entries(columns).map(([name, files]) => `${name}=${files.join(',')}`)],
    {
      cwd: bench,
      encoding: 'utf8',
    },
  ).stdout
  const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout.trim()
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`
  return `# Results

Heddle ${version} (${commit}), ${new Date().toISOString().slice(0, 10)}. ${machine}, Node ${process.version};
${serverVersions().join('; ')}; fsync and synchronous_commit on. Client, server, Postgres and Redis share the machine.
Made by \`npm run bench -- --repeat ${args.repeat} --seconds ${args.seconds}${args.scenario ? ` --scenario ${args.scenario}` : ''}\`; a fresh server and empty data for each scenario.

\`floor\` is the same graphs called in-process, without any server: with the memory saver, with the stock Postgres saver, and with
that and durability "exit". Absolute figures hold for this machine only: compare ratios from one run. Metrics are explained in
[README.md](README.md).

${table}${
  checkpoints.length === 0
    ? ''
    : `
## Checkpoints

The graph for that many turns on one thread, with Heddle's saver and with the stock Postgres saver: bytes of checkpoints, values and
writes; and the time of one put on such a thread, until it is durable (\`checkpoints.mjs\`).

| ${Object.keys(checkpoints[0] ?? {}).join(' | ')} |
|${Object.keys(checkpoints[0] ?? {})
        .map(() => '---')
        .join('|')}|
${checkpoints.map((row) => `| ${Object.values(row).join(' | ')} |`).join('\n')}
`
}${byHand()}`
}

function chosen() {
  return args.scenario ? ['--scenario', args.scenario] : []
}

function seconds() {
  return String(args.seconds)
}

/** @param {string} command @param {string[]} argv @param {Record<string, string>} env */
function must(command, argv, env) {
  const done = spawnSync(command, argv, { cwd: bench, stdio: 'inherit', env: { ...process.env, ...env } })
  if (done.status !== 0) throw new Error(`${command} ${argv[0]} failed (${done.signal ?? done.status})`)
}
