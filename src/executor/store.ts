// The store that graphs get. In charge of translating LangGraph's store operations to the protocol's, and of gathering what
// is asked for in one turn of the event loop into one call; the server keeps the items.

import type { BaseStore, Operation, OperationResults } from '@langchain/langgraph-checkpoint'
import type { Storage } from './executor.ts'
import type { LangChain } from './langchain.ts'
import type { StoreOp } from './protocol.ts'

/** Makes a store that is an instance of the graph project's own BaseStore. */
export function createStore(langchain: LangChain, storage: Pick<Storage, 'store.batch'>, run_id?: string): BaseStore {
  const ask = gathered((ops) => storage['store.batch']({ ...(run_id === undefined ? {} : { run_id }), ops }))
  class HeddleStore extends langchain.checkpoint.BaseStore {
    readonly [OURS] = true
    override async batch<Op extends Operation[]>(operations: Op): Promise<OperationResults<Op>> {
      const ops = operations.map(opOf)
      const results = await ask(ops)
      return results.map((result, i) => resultOf(ops[i] as StoreOp, result)) as OperationResults<Op>
    }
  }
  passThrough(langchain)
  return new HeddleStore()
}

type Ask = (ops: StoreOp[]) => Promise<unknown[]>

/** What is asked for in one turn goes in one call, in the order in which it was asked. */
function gathered(ask: Ask): Ask {
  let waiting: { ops: StoreOp[]; resolve(results: unknown[]): void; reject(error: unknown): void }[] = []
  const flush = async () => {
    const asked = waiting
    waiting = []
    try {
      const results = await ask(asked.flatMap(({ ops }) => ops))
      let at = 0
      for (const { ops, resolve } of asked) {
        resolve(results.slice(at, at + ops.length))
        at += ops.length
      }
    } catch (error) {
      if (asked.length === 1) return asked[0]?.reject(error)
      // Nothing of it was done: whoever made no mistake is not to suffer from somebody else's.
      for (const { ops, resolve, reject } of asked) await ask(ops).then(resolve, reject)
    }
  }
  return (ops) =>
    ops.length === 0
      ? Promise.resolve([])
      : new Promise((resolve, reject) => {
          waiting.push({ ops, resolve, reject })
          if (waiting.length === 1) setImmediate(() => void flush())
        })
}

// ------------------------------------------------------------------------------------------------ the wrapper

const OURS = Symbol.for('heddle.store')
const PASSES = Symbol.for('heddle.passes')

/** LangGraph lends nodes a wrapper around the store, which gathers too, but forgets `index` and refuses batches and listings,
 *  and turns a timer all the while: around our stores it only passes on. */
function passThrough(langchain: LangChain): void {
  const wrapper = langchain.checkpoint.AsyncBatchedStore?.prototype as unknown as
    | (Record<string, unknown> & { [PASSES]?: boolean })
    | undefined
  if (wrapper === undefined || wrapper[PASSES]) return
  wrapper[PASSES] = true
  const isOurs = (store: unknown): store is Record<string, (...args: unknown[]) => unknown> =>
    typeof store === 'object' && store !== null && OURS in store
  for (const name of ['get', 'search', 'put', 'delete', 'batch', 'listNamespaces', 'start', 'stop']) {
    const original = wrapper[name]
    if (typeof original !== 'function') continue
    wrapper[name] = function (this: { store?: unknown }, ...args: unknown[]) {
      const { store } = this
      return isOurs(store) ? store[name]?.(...args) : original.apply(this, args)
    }
  }
}

// ------------------------------------------------------------------------------------------------ operations

function opOf(operation: Operation): StoreOp {
  if ('namespacePrefix' in operation) {
    const { namespacePrefix, filter, limit, offset, query } = operation
    return {
      op: 'search',
      namespace_prefix: namespacePrefix,
      limit: limit ?? 10,
      offset: offset ?? 0,
      ...(filter === undefined || filter === null ? {} : { filter }),
      ...(query === undefined || query === null ? {} : { query }),
    }
  }
  if ('value' in operation) {
    const { namespace, key, value, index } = operation
    return { op: 'put', namespace, key, value, ...(index === undefined ? {} : { index }) }
  }
  if ('key' in operation) return { op: 'get', namespace: operation.namespace, key: operation.key }
  const path = (type: string) => operation.matchConditions?.find((match) => match.matchType === type)?.path
  const prefix = path('prefix')
  const suffix = path('suffix')
  return {
    op: 'namespaces',
    limit: operation.limit,
    offset: operation.offset,
    ...(prefix === undefined ? {} : { prefix }),
    ...(suffix === undefined ? {} : { suffix }),
    ...(operation.maxDepth === undefined ? {} : { max_depth: operation.maxDepth }),
  }
}

interface WireItem {
  namespace: string[]
  key: string
  value: Record<string, unknown>
  created_at: string
  updated_at: string
  score?: number | null
}

function resultOf(op: StoreOp, result: unknown): unknown {
  if (op.op === 'put') return undefined
  if (op.op === 'get') return result ? itemOf(result as WireItem) : null
  if (op.op === 'search') return (result as WireItem[]).map(itemOf)
  return result
}

const itemOf = ({ created_at, updated_at, score, ...item }: WireItem) => ({
  ...item,
  createdAt: new Date(created_at),
  updatedAt: new Date(updated_at),
  ...(typeof score === 'number' ? { score } : {}),
})
