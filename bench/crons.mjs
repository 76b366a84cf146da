// Many crons due in the same minute, over several server processes on a private Postgres and Redis: whether each has its run,
// none has two, and how long after the slot they were created. Give it the machine for itself.
//
//   node bench/crons.mjs [--crons 1000] [--processes 2]
// @ts-check

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { freePort, startPostgres, startRedis } from '../scripts/servers.mjs'
import { ensureBuilt, root } from '../scripts/setup.mjs'

const { values: args } = parseArgs({
  options: { crons: { type: 'string', default: '1000' }, processes: { type: 'string', default: '2' } },
})
const wanted = Number(args.crons)

ensureBuilt()
const [postgres, redis] = await Promise.all([startPostgres({ fsync: true }), startRedis()])
/** @type {import('node:child_process').ChildProcess[]} */
const servers = []
try {
  const urls = []
  for (let i = 0; i < Number(args.processes); i++) urls.push(await startServer())
  await report(await createCrons(urls))
} finally {
  const ended = servers.map((server) => once(server, 'exit'))
  for (const server of servers) server.kill('SIGTERM')
  await Promise.all(ended)
  await Promise.all([postgres.stop(), redis.stop()])
}

async function startServer() {
  const port = await freePort()
  const config = join(root, 'bench', 'graphs', 'langgraph.json')
  const command = ['start', '--config', config, '--host', '127.0.0.1', '--port', `${port}`]
  const env = { ...process.env, DATABASE_URI: postgres.uri, REDIS_URI: redis.uri, LOG_LEVEL: 'warn' }
  servers.push(spawn(process.execPath, [join(root, 'bin', 'heddle.js'), ...command], { env, stdio: 'inherit' }))
  const url = `http://127.0.0.1:${port}`
  for (;;) {
    const answer = await fetch(`${url}/ok`).catch(() => undefined)
    if (answer?.ok) return url
    await sleep(100)
  }
}

/** Makes crons that are due together, once; gives when that is. @param {string[]} urls */
async function createCrons(urls) {
  const perSecond = 100
  const slot = new Date(Math.ceil((Date.now() + (wanted / perSecond) * 1_000 + 10_000) / 60_000) * 60_000)
  const schedule = `${slot.getUTCMinutes()} ${slot.getUTCHours()} ${slot.getUTCDate()} ${slot.getUTCMonth() + 1} *`
  const body = JSON.stringify({ assistant_id: 'echo', schedule, input: { messages: [] }, on_run_completed: 'keep' })
  let left = wanted
  const client = async () => {
    while (left-- > 0) {
      const url = urls[left % urls.length]
      const headers = { 'content-type': 'application/json' }
      const answer = await fetch(`${url}/runs/crons`, { method: 'POST', headers, body })
      if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`)
      const { next_run_date } = await answer.json()
      if (Date.parse(next_run_date) !== slot.getTime()) throw new Error(`a cron is due at ${next_run_date}`)
    }
  }
  await Promise.all(Array.from({ length: 16 }, client))
  const ahead = Math.round((slot.getTime() - Date.now()) / 1_000)
  console.log(`${wanted} crons are due at ${slot.toISOString()}, in ${ahead} s, over ${urls.length} processes`)
  if (ahead < 0) throw new Error('making the crons took too long')
  return slot
}

/** Waits until every run has ended, and says when they were created. @param {Date} slot */
async function report(slot) {
  const client = new pg.Client({ connectionString: postgres.uri })
  await client.connect()
  try {
    const deadline = slot.getTime() + 120_000
    for (;;) {
      await sleep(500)
      const { rows } = await client.query("select count(*)::int as n from runs where status = 'success'")
      if (rows[0].n >= wanted) break
      if (Date.now() > deadline) throw new Error(`only ${rows[0].n} runs succeeded within two minutes`)
    }
    const { rows } = await client.query(
      `select count(*)::int as runs, count(distinct metadata ->> 'cron_id')::int as crons,
        (select count(*)::int from cron_runs) as slots, (select count(*)::int from crons where last_slot = $1) as decided,
        round(extract(epoch from max(created_at) - $1), 2)::float8 as last_created_s, round(extract(epoch from percentile_disc(0.5) within group (order by created_at) - $1), 2)::float8 as half_created_s,
        round(extract(epoch from min(created_at) - $1), 2)::float8 as first_created_s, round(extract(epoch from max(ended_at) - $1), 2)::float8 as last_ended_s from runs where metadata ? 'cron_id'`,
      [slot],
    )
    const { runs, crons, slots, decided, ...times } = rows[0]
    console.table({ runs, crons, slots, decided, ...times })
    if (runs !== wanted || crons !== wanted || slots !== wanted) throw new Error('not every cron has one run')
  } finally {
    await client.end()
  }
}
