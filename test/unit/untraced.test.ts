import '@langchain/langgraph'
import { getContextVariable, setContextVariable } from '@langchain/core/context'
import { AsyncLocalStorageProviderSingleton as core } from '@langchain/core/singletons'
import { beforeEach, describe, expect, it } from 'vitest'
import { lightenUntraced } from '../../src/executor/untraced.ts'

type Trace = {
  tracingEnabled: boolean
  child_runs: unknown[]
  createChild(config: { name: string }): { tracingEnabled: boolean }
}

/** LangChain's provider with a record of what it was left to do. */
function providers() {
  const left: unknown[] = []
  const provider = Object.assign(Object.create(core) as typeof core, {
    runWithConfig: ((config, callback, avoid) => {
      left.push(config)
      return core.runWithConfig(config, callback, avoid)
    }) as typeof core.runWithConfig,
  })
  lightenUntraced(provider)
  left.length = 0
  return { provider, left }
}

describe('a step of a run that nobody traces', () => {
  let { provider, left } = providers()
  beforeEach(() => {
    ;({ provider, left } = providers())
  })
  const traceIn = (config: object): Trace =>
    provider.runWithConfig(config, () => provider.getInstance().getStore()) as Trace

  it('finds its own config, and the one around it again afterwards', () => {
    const [outer, inner] = [{ configurable: { at: 'outer' } }, { configurable: { at: 'inner' } }]
    const seen = provider.runWithConfig(outer, () => [
      provider.runWithConfig(inner, () => provider.getRunnableConfig()),
      provider.getRunnableConfig(),
    ])
    expect(seen).toEqual([inner, outer])
    expect(left).toEqual([])
  })

  it('has a trace of its own, beneath which nothing is sent', () => {
    const [one, other] = [traceIn({}), traceIn({})]
    expect(one.createChild({ name: 'mine' }).tracingEnabled).toBe(false)
    expect(one.child_runs).toHaveLength(1)
    expect(other.child_runs).toEqual([])
    expect(traceIn({}).child_runs).toEqual([])
  })

  it('has a trace of the same kind, with the same fields, as LangChain makes', () => {
    const [light, full] = [traceIn({}), core.runWithConfig({}, () => core.getInstance().getStore()) as Trace]
    expect(Object.getPrototypeOf(light)).toBe(Object.getPrototypeOf(full))
    expect(new Set([...Object.keys(full), 'events'])).toEqual(new Set([...Object.keys(light), 'events']))
  })

  it('sees variables that were set around it', async () => {
    const seen = await provider.runWithConfig({}, async () => {
      setContextVariable('colour', 'blue')
      return provider.runWithConfig({}, async () => getContextVariable('colour'))
    })
    expect(seen).toBe('blue')
  })

  it('is left to LangChain where it has a tracer, or is within something traced', () => {
    const tracer = { name: 'langchain_tracer', handleChainStart: () => {} }
    const traced = { callbacks: [tracer] } as never
    provider.runWithConfig(traced, () => {})
    expect(left).toEqual([traced])
    provider.getInstance().run({ tracingEnabled: true }, () => provider.runWithConfig({ tags: ['within'] }, () => {}))
    expect(left).toEqual([traced, { tags: ['within'] }])
  })
})
