// What a subscriber of the thread protocol wants to hear: channels, namespaces, depth. Pure.

import type { ThreadEvent } from './protocol.ts'

/** The filter of one subscription; what is absent is not filtered by. */
export interface Subscription {
  channels: readonly string[]
  /** Namespaces to hear with all below them; a segment without a task id stands for every task of that node. */
  namespaces?: readonly (readonly string[])[] | undefined
  /** How far below them. */
  depth?: number | undefined
}

/** The namespace under which a subscriber hears an event; undefined where it does not. */
export type Hears = (event: ThreadEvent) => readonly string[] | undefined

/** Makes a subscription's filter. */
export function hearsOf({ channels, namespaces, depth }: Subscription): Hears {
  const wanted = new Set(channels)
  const isWanted = ({ method, channel = method }: ThreadEvent): boolean =>
    wanted.has(channel) || (channel.startsWith('custom:') && wanted.has('custom'))
  const reaches = (namespace: readonly string[]): boolean =>
    namespaces === undefined ||
    namespaces.length === 0 ||
    namespaces.some(
      (prefix) => isBelow(namespace, prefix) && (depth === undefined || namespace.length - prefix.length <= depth),
    )
  return (event) => {
    if (!isWanted(event)) return undefined
    const { namespace, inTask, apart } = event
    if (!inTask) return reaches(namespace) ? namespace : undefined
    // Most clients take what a graph's own nodes say only under the namespace of the graph.
    const graph = namespace.slice(0, -1)
    return (apart ? [namespace, graph] : [graph, namespace]).find(reaches)
  }
}

const isBelow = (namespace: readonly string[], prefix: readonly string[]): boolean =>
  prefix.every((segment, i) => {
    const own = namespace[i]
    return own === segment || (own !== undefined && !segment.includes(':') && own.split(':')[0] === segment)
  })
