// What processes and servers hold: memory, open files, connections, keys. In charge of measuring it from outside.

import { readdirSync, readFileSync } from 'node:fs'
import { createClient } from 'redis'
import type { Cluster } from './cluster.ts'
import type { Resource } from './history.ts'

/** Measures; given the measures of before, beside those. */
export async function sampleResources(cluster: Cluster, before?: readonly Resource[]): Promise<Resource[]> {
  const now: Resource[] = []
  const add = (name: string, value: number, slack: number) => {
    const was = before?.find((resource) => resource.name === name)?.before ?? value
    now.push({ name, before: was, after: value, slack })
  }
  for (const member of cluster.members) {
    const pid = member.pid()
    if (pid === undefined) continue
    // A heap grows until it is collected.
    add(`${member.name} resident MiB`, residentMib(pid), 100)
    add(`${member.name} open files`, readdirSync(`/proc/${pid}/fd`).length, 15)
  }
  const sessions = 'select count(*)::int as n from pg_stat_activity where pid <> pg_backend_pid()'
  // A process's pool may be as full as ten for a minute after a busy moment; what leaks does not stop there.
  add('Postgres sessions', (await cluster.query<{ n: number }>(sessions))[0]?.n ?? 0, 5 * cluster.members.length)
  if (cluster.redis) add('Redis keys', await keysIn(cluster.redis.uri), 0)
  return now
}

const residentMib = (pid: number): number =>
  Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024)

async function keysIn(uri: string): Promise<number> {
  const client = createClient({ url: uri })
  client.on('error', () => {})
  await client.connect()
  try {
    return await client.dbSize()
  } finally {
    client.destroy()
  }
}
