// One suite for every bus: memory, Redis, a Redis cluster, Postgres. What only matters between processes is tried with two
// instances, which share nothing but the server.

import { randomUUID } from 'node:crypto'
import { createClient } from 'redis'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { startRedis } from '../../scripts/servers.mjs'
import type { Bus, BusMessage } from '../../src/bus/bus.ts'
import { createMemoryBus } from '../../src/bus/memory.ts'
import { createPostgresBus } from '../../src/bus/postgres.ts'
import { createRedisBus } from '../../src/bus/redis.ts'
import { openNotify } from '../../src/db/notify.ts'
import { ConfigError } from '../../src/errors.ts'
import type { Observation } from '../../src/observe.ts'
import { needed } from '../support/databases.ts'
import { startProxy, type TcpProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'

interface Stage {
  open(observe: (observation: Observation) => void): Promise<Bus>
  /** Cuts the connections of every bus; they may reconnect at once. */
  cut?: () => Promise<void>
  /** Makes the server unreachable until `mend`. */
  breakDown?: () => void
  freeze?: () => void
  mend?: () => void
  /** Connections that buses hold. */
  connections?: () => number
  /** Attempts to connect that failed so far. */
  refused?: () => number
  /** What becomes of a large body; it is brought where nothing is said. */
  large?: 'dropped' | 'dropped until others listen'
  close(): Promise<void>
}

const behind = (proxy: TcpProxy): Pick<Stage, 'cut' | 'breakDown' | 'freeze' | 'mend' | 'connections' | 'refused'> => ({
  cut: async () => proxy.cut(),
  breakDown: () => proxy.refuse(),
  freeze: () => proxy.freeze(),
  mend: () => proxy.mend(),
  connections: () => proxy.connections(),
  refused: () => proxy.refused(),
})

const stages: Record<string, () => Promise<Stage>> = {
  memory: async () => ({ open: async (observe) => createMemoryBus(observe), close: async () => {} }),
  redis: async () => {
    const proxy = await startProxy(needed('TEST_REDIS_URI'), 6379)
    const prefix = `${randomUUID()}:`
    return {
      ...behind(proxy),
      large: 'dropped until others listen',
      open: (observe) => createRedisBus({ url: proxy.uri, prefix, deadAfterMs: 900, subscribeWaitMs: 5_000, observe }),
      close: () => proxy.close(),
    }
  },
  'redis cluster': async () => {
    const server = await startRedis({ cluster: true })
    const admin = createClient({ url: server.uri })
    await admin.connect()
    return {
      large: 'dropped until others listen',
      open: (observe) => createRedisBus({ url: server.uri, cluster: true, subscribeWaitMs: 5_000, observe }),
      cut: async () => void (await admin.sendCommand(['CLIENT', 'KILL', 'SKIPME', 'yes'])),
      close: async () => {
        admin.destroy()
        await server.stop()
      },
    }
  },
  postgres: async () => {
    const proxy = await startProxy(needed('TEST_DATABASE_URI'), 5432)
    const channel = `bus_${randomUUID().replace(/[^a-f]/g, '')}`
    return {
      ...behind(proxy),
      large: 'dropped',
      open: (observe) =>
        createPostgresBus({
          connect: (on) => openNotify({ uri: proxy.uri, channel, deadAfterMs: 900, ...on }),
          observe,
        }),
      close: () => proxy.close(),
    }
  },
}

describe.each(Object.keys(stages))('the %s bus', (name) => {
  let stage: Stage
  const opened: Bus[] = []
  const seen: Observation[] = []
  const open = async (): Promise<Bus> => {
    const bus = await stage.open((observation) => seen.push(observation))
    opened.push(bus)
    await until('the bus is healthy', () => bus.healthy())
    return bus
  }
  const failures = () => seen.filter((observation) => observation.kind === 'bus_failed')
  const listen = async (bus: Bus, channel: string) => {
    const heard: BusMessage[] = []
    const gaps: number[] = []
    const stop = await bus.subscribe(
      channel,
      (message) => heard.push(message),
      () => gaps.push(heard.length),
    )
    return { heard, gaps, stop }
  }

  beforeAll(async () => {
    stage = await (stages[name] as () => Promise<Stage>)()
  })
  afterEach(async () => {
    stage.mend?.()
    await Promise.all(opened.splice(0).map((bus) => bus.close()))
    seen.length = 0
  })
  afterAll(() => stage.close())

  test('delivers to every subscriber in this process before publish returns', async () => {
    const bus = await open()
    const first = await listen(bus, 'a')
    const second = await listen(bus, 'a')
    const other = await listen(bus, 'b')
    bus.publish('a', { hint: { n: 1, who: 'x', yes: true, no: null }, body: '{"text":"päivää \\u0000 \u{1F9F5}"}' })
    const message = { hint: { n: 1, who: 'x', yes: true, no: null }, body: '{"text":"päivää \\u0000 \u{1F9F5}"}' }
    expect(first.heard).toEqual([message])
    expect(second.heard).toEqual([message])
    expect(other.heard).toEqual([])
  })

  test('keeps the order when a subscriber publishes while it is being told', async () => {
    const bus = await open()
    await bus.subscribe('a', ({ hint }) => hint.n === 1 && bus.publish('a', { hint: { n: 2 } }))
    const { heard } = await listen(bus, 'a')
    bus.publish('a', { hint: { n: 1 } })
    expect(heard.map(({ hint }) => hint.n)).toEqual([1, 2])
  })

  test('survives a subscriber that throws, and says so', async () => {
    const bus = await open()
    await bus.subscribe('a', () => {
      throw new Error('a bad subscriber')
    })
    const { heard } = await listen(bus, 'a')
    bus.publish('a', { hint: { n: 1 } })
    expect(heard).toEqual([{ hint: { n: 1 } }])
    expect(failures()).toEqual([{ kind: 'bus_failed', where: 'subscriber', error: new Error('a bad subscriber') }])
  })

  test('tells a subscriber nothing any more once it has stopped, even when stopped twice', async () => {
    const bus = await open()
    const gone = await listen(bus, 'a')
    const stays = await listen(bus, 'a')
    gone.stop()
    gone.stop()
    bus.publish('a', { hint: { n: 1 } })
    expect(gone.heard).toEqual([])
    expect(stays.heard).toEqual([{ hint: { n: 1 } }])
  })

  test('publishes and subscribes without an error when closed', async () => {
    const bus = await open()
    const { heard } = await listen(bus, 'a')
    await bus.close()
    bus.publish('a', { hint: { n: 1 } })
    expect(heard).toEqual([])
    expect(bus.healthy()).toBe(false)
    await bus.close()
  })

  if (name === 'memory') return

  test('brings every message to other instances once, in the order of each channel', async () => {
    const [here, there] = [await open(), await open()]
    const a = await listen(there, 'a')
    const b = await listen(there, 'b')
    const own = await listen(here, 'a')
    for (let n = 0; n < 500; n++) {
      here.publish('a', { hint: { n }, body: `{"n":${n}}` })
      here.publish('b', { hint: { same: true } })
      if (n % 50 === 0) await new Promise(setImmediate)
    }
    await until('all have arrived', () => a.heard.length >= 500 && b.heard.length >= 500)
    const expected = Array.from({ length: 500 }, (_, n) => ({ hint: { n }, body: `{"n":${n}}` }))
    expect(a.heard).toEqual(expected)
    expect(b.heard).toEqual(expected.map(() => ({ hint: { same: true } })))
    // Its own messages do not come back to it: what follows from another instance is the next it hears.
    there.publish('a', { hint: { n: -1 } })
    await until('the answer has arrived', () => own.heard.length > 500)
    expect(own.heard).toEqual([...expected, { hint: { n: -1 } }])
    expect(failures()).toEqual([])
  })

  test('drops at most the body of a large message, and never its hint', async () => {
    const [here, there] = [await open(), await open()]
    const { heard } = await listen(there, 'a')
    const fits = 'é'.repeat(3_000)
    const large = 'x'.repeat(200_000)
    here.publish('a', { hint: { n: 1 }, body: fits })
    here.publish('a', { hint: { n: 2 }, body: large })
    here.publish('a', { hint: { n: 3 }, body: '' })
    await until('all have arrived', () => heard.length === 3)
    expect(heard[0]).toEqual({ hint: { n: 1 }, body: fits })
    expect(heard[1]).toEqual(stage.large === undefined ? { hint: { n: 2 }, body: large } : { hint: { n: 2 } })
    expect(heard[2]).toEqual({ hint: { n: 3 }, body: '' })
  })

  test('makes a large body only for those who listen, and brings it to them once it is known that they do', async () => {
    const [here, there] = [await open(), await open()]
    let made = 0
    const message = (n: number): BusMessage => ({
      hint: { n },
      size: 200_000,
      get body() {
        made++
        return 'x'.repeat(200_000)
      },
    })
    here.publish('a', message(1))
    expect(made).toBe(0)
    if (stage.large !== 'dropped until others listen') return
    const { heard, stop } = await listen(there, 'a')
    await until('the body is brought', () => {
      here.publish('a', message(2))
      return heard.some(({ body }) => body === 'x'.repeat(200_000))
    })
    await stop()
    await until('bodies are left out again', () => {
      const before = made
      here.publish('a', message(3))
      return made === before
    })
  })

  test('hears a channel again that it had left a moment before', async () => {
    const [here, there] = [await open(), await open()]
    for (let n = 0; n < 20; n++) (await listen(there, 'a')).stop()
    const { heard } = await listen(there, 'a')
    here.publish('a', { hint: { n: 1 } })
    await until('it has arrived', () => heard.length === 1)
  })

  test('tells subscribers to look for themselves after a lost connection, and hears again', async () => {
    const [here, there] = [await open(), await open()]
    const a = await listen(there, 'a')
    const b = await listen(there, 'b')
    await stage.cut?.()
    await until('both were told', () => a.gaps.length > 0 && b.gaps.length > 0)
    await until('the publisher is back', () => here.healthy() && there.healthy())
    const publish = () => {
      here.publish('a', { hint: { n: 1 } })
      here.publish('b', { hint: { n: 2 } })
    }
    publish()
    await until('both are heard', () => {
      // A cluster's client is ready before its connection for subscribers is: what is said in between is looked up.
      if (name === 'redis cluster') publish()
      return a.heard.length > 0 && b.heard.length > 0
    })
    expect(failures().length).toBeGreaterThan(0)
    expect(seen.filter(({ kind }) => kind === 'bus_restored').length).toBeGreaterThan(0)
  })

  if (name === 'redis cluster') return

  test('goes on in this process while the server is away, without an error, and says so once', async () => {
    const bus = await open()
    const before = await listen(bus, 'a')
    const refused = () => stage.refused?.() ?? 0
    const already = refused()
    stage.breakDown?.()
    await until('it notices', () => !bus.healthy())
    const during = await listen(bus, 'b')
    for (let n = 0; n < 100; n++) bus.publish(n % 2 ? 'a' : 'b', { hint: { n } })
    expect(before.heard).toHaveLength(50)
    expect(during.heard).toHaveLength(50)
    await until('it has tried again', () => refused() >= already + 4)
    expect(failures()).toHaveLength(1)
    stage.mend?.()
    await until('both were told', () => before.gaps.length > 0 && during.gaps.length > 0)
    const other = await open()
    other.publish('b', { hint: { n: 1_000 } })
    await until('what was subscribed meanwhile is heard', () => during.heard.length === 51)
    expect(during.heard[50]).toEqual({ hint: { n: 1_000 } })
  })

  test('drops what was published while disconnected instead of sending it late', async () => {
    const [here, there] = [await open(), await open()]
    const { heard, gaps } = await listen(there, 'a')
    stage.breakDown?.()
    await until('both notice', () => !here.healthy() && !there.healthy())
    here.publish('a', { hint: { n: 1 } })
    stage.mend?.()
    await until('both are back', () => here.healthy() && there.healthy() && gaps.length > 0)
    here.publish('a', { hint: { n: 2 } })
    await until('something is heard', () => heard.length > 0)
    expect(heard).toEqual([{ hint: { n: 2 } }])
  })

  test('starts while the server is away, and connects when it is there', async () => {
    stage.breakDown?.()
    const bus = await stage.open((observation) => seen.push(observation))
    opened.push(bus)
    expect(bus.healthy()).toBe(false)
    const { gaps } = await listen(bus, 'a')
    stage.mend?.()
    await until('it is told', () => gaps.length > 0)
    expect(bus.healthy()).toBe(true)
  })

  test('notices a connection that is open and dead', async () => {
    const bus = await open()
    stage.freeze?.()
    await until('it notices', () => !bus.healthy())
    stage.mend?.()
    await until('it recovers', () => bus.healthy())
  })

  test('leaves no connection when it is closed', async () => {
    const bus = await open()
    await listen(bus, 'a')
    expect(stage.connections?.()).toBe(name === 'redis' ? 2 : 1)
    await bus.close()
    await until('its connections are gone', () => stage.connections?.() === 0)
  })
})

test('refuses a Redis URL that is none', async () => {
  await expect(createRedisBus({ url: 'localhost:6379', observe: () => {} })).rejects.toThrow(ConfigError)
})

test('never shows a password', async () => {
  const url = new URL(needed('TEST_REDIS_URI'))
  url.password = 'secret'
  const bus = await createRedisBus({ url: url.href, observe: () => {} })
  expect(bus.description).toBe(`redis ${url.host}`)
  await bus.close()
})
