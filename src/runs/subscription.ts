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
export const hearsOf =
  (wanted: Subscription): Hears =>
  (event) => {
    if (!isWanted(wanted, event)) return undefined
    const { namespace, inTask, apart } = event
    const reached = (one: readonly string[]) => reaches(wanted, one)
    if (!inTask) return reached(namespace) ? namespace : undefined
    // Most clients take what a graph's own nodes say only under the namespace of the graph.
    const graph = namespace.slice(0, -1)
    return (apart ? [namespace, graph] : [graph, namespace]).find(reached)
  }

const isWanted = ({ channels }: Subscription, { method, channel = method }: ThreadEvent): boolean =>
  channels.includes(channel) || (channel.startsWith('custom:') && channels.includes('custom'))

const reaches = ({ namespaces, depth }: Subscription, namespace: readonly string[]): boolean =>
  namespaces === undefined ||
  namespaces.length === 0 ||
  namespaces.some(
    (prefix) => isBelow(namespace, prefix) && (depth === undefined || namespace.length - prefix.length <= depth),
  )

const isBelow = (namespace: readonly string[], prefix: readonly string[]): boolean =>
  prefix.every((segment, i) => {
    const own = namespace[i]
    return own === segment || (own !== undefined && !segment.includes(':') && own.split(':')[0] === segment)
  })
