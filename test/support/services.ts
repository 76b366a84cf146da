// The Postgres and Redis that tests use: the ones named by TEST_DATABASE_URI and TEST_REDIS_URI, else private ones. In charge
// of their start and stop around a whole test run; must leave no process and no file behind.

import { ensureVectors, startPostgres, startRedis } from '../../scripts/servers.mjs'
import { makeTemplate } from './databases.ts'

/** Starts what is not given by the environment and names it there for the test processes. Returns the way to stop it. */
export async function startServices(): Promise<() => Promise<void>> {
  const stops: (() => Promise<void>)[] = []
  const stop = async () => {
    // The template is dropped before its server stops.
    for (const each of stops.splice(0).reverse()) await each()
  }
  try {
    const start = async (key: string, launch: typeof startRedis) => {
      if (process.env[key]) return
      const server = await launch()
      stops.push(server.stop)
      process.env[key] = server.uri
    }
    await Promise.all([start('TEST_DATABASE_URI', () => startPostgres()), start('TEST_REDIS_URI', startRedis)])
    if (stops.length > 0) ensureVectors()
    stops.push(await makeTemplate())
  } catch (error) {
    await stop()
    throw error
  }
  return stop
}
