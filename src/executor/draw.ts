// The drawing of a graph: nodes and edges as the API gives them. In charge of making LangChain's graph JSON fit the contract
// (ids as text, the documented fields only); must never run a node.

import { plain } from './wire.ts'

/** A drawing: `type` says what `data` is (a runnable's id and name, or the schema of an end point). */
export interface Drawing {
  nodes: { id: string; type?: string; data?: unknown; metadata?: unknown }[]
  edges: { source: string; target: string; data?: string; conditional?: boolean }[]
}

interface Drawable {
  getGraphAsync(config: object): Promise<{ toJSON(): { nodes?: unknown; edges?: unknown } }>
}

type Fields = Record<string, unknown>

/** Draws a graph. `xray` shows the insides of subgraphs: all (true) or that many levels. Throws what the graph throws. */
export async function draw(graph: unknown, xray: boolean | number, config: object = {}): Promise<Drawing> {
  const drawn = await (graph as Drawable).getGraphAsync({ ...config, xray })
  const { nodes, edges } = drawn.toJSON()
  return { nodes: listOf(nodes).map(nodeOf), edges: listOf(edges).map(edgeOf) }
}

const listOf = (value: unknown): Fields[] => (Array.isArray(value) ? (value as Fields[]) : [])

const nodeOf = ({ id, type, data, metadata }: Fields): Drawing['nodes'][number] => ({
  id: String(id),
  ...(typeof type === 'string' ? { type } : {}),
  ...(data === undefined || data === null ? {} : { data: plain(data) }),
  ...(metadata === undefined || metadata === null ? {} : { metadata: plain(metadata) }),
})

const edgeOf = ({ source, target, data, conditional }: Fields): Drawing['edges'][number] => ({
  source: String(source),
  target: String(target),
  ...(data === undefined || data === null ? {} : { data: String(data) }),
  ...(conditional === true ? { conditional } : {}),
})
