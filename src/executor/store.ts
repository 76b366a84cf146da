// The store that graphs get. In charge of translating LangGraph's store operations to the protocol's; the server keeps the
// items.

import type { BaseStore, Operation, OperationResults } from '@langchain/langgraph-checkpoint'
import type { Storage } from './executor.ts'
import type { LangChain } from './langchain.ts'
import type { StoreOp } from './protocol.ts'

/** Makes a store that is an instance of the graph project's own BaseStore. */
export function createStore(langchain: LangChain, storage: Pick<Storage, 'store.batch'>, run_id?: string): BaseStore {
  class HeddleStore extends langchain.checkpoint.BaseStore {
    override async batch<Op extends Operation[]>(operations: Op): Promise<OperationResults<Op>> {
      const ops = operations.map(opOf)
      const results = await storage['store.batch']({ ...(run_id === undefined ? {} : { run_id }), ops })
      return results.map((result, i) => resultOf(ops[i] as StoreOp, result)) as OperationResults<Op>
    }
  }
  return new HeddleStore()
}

function opOf(operation: Operation): StoreOp {
  if ('namespacePrefix' in operation) {
    const { namespacePrefix, filter, limit, offset, query } = operation
    return {
      op: 'search',
      namespace_prefix: namespacePrefix,
      limit: limit ?? 10,
      offset: offset ?? 0,
      ...(filter === undefined ? {} : { filter }),
      ...(query === undefined ? {} : { query }),
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
