// Runs that nobody traces. LangChain lends every step its config inside of a trace, made anew for each, which takes longer
// than many a step. In charge of making what such traces have in common once; must leave alone whatever is traced.

import type * as Singletons from '@langchain/core/singletons'

type Provider = typeof Singletons.AsyncLocalStorageProviderSingleton & { [LIGHT]?: boolean }
/** As far as it is known here: beneath one that is not enabled, nothing is ever sent. */
type Trace = { tracingEnabled?: boolean; extra?: object; [VARIABLES]?: unknown }
type Config = Parameters<Provider['runWithConfig']>[0]

const LIGHT = Symbol.for('heddle.untraced')
// LangChain's own names.
const CONFIG = Symbol.for('lc:child_config')
const VARIABLES = Symbol.for('lc:context_variables')
const TRACER = 'langchain_tracer'

/** Has the steps that one copy of the packages runs untraced begin with copies of one empty trace. */
export function lightenUntraced(provider: Provider): void {
  if (provider[LIGHT]) return
  const original = provider.runWithConfig.bind(provider)
  const empty = original({}, () => provider.getInstance().getStore()) as Trace | undefined
  // Another version may do it another way.
  if (empty?.tracingEnabled !== false) return
  provider[LIGHT] = true
  const proto = Object.getPrototypeOf(empty)
  provider.runWithConfig = (config, callback, avoidCreatingRootRunTree) => {
    const storage = provider.getInstance()
    const around = storage.getStore() as Trace | undefined
    if (avoidCreatingRootRunTree || around?.tracingEnabled || hasTracer(config))
      return original(config, callback, avoidCreatingRootRunTree)
    // A literal, because copying into an object takes five times as long.
    const trace: Trace = {
      __proto__: proto,
      ...empty,
      child_runs: [],
      events: [],
      extra: { ...empty.extra, [CONFIG]: config },
    } as Trace
    if (around?.[VARIABLES] !== undefined) trace[VARIABLES] = around[VARIABLES]
    return storage.run(trace, callback)
  }
}

function hasTracer(config: Config): boolean {
  const callbacks = config?.callbacks as { name?: string }[] | { handlers?: { name?: string }[] } | undefined
  const handlers = Array.isArray(callbacks) ? callbacks : callbacks?.handlers
  return handlers?.some(({ name }) => name === TRACER) ?? false
}
