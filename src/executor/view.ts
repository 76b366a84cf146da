// What a read of a state needs of what is stored: which channels it can do without, and which values need only be printed.
// In charge of the graph still seeing what decides about its next tasks: that a channel has a value, and the values that its
// reducers are about to be called with. Reads nothing itself.

import type { Codec } from './codec.ts'
import { TAG } from './codec-write.ts'
import type { Graph } from './graph.ts'
import type { Blob, LeaveOut, StoredCheckpoint } from './stored.ts'
import { Plain } from './wire.ts'

/** How the checkpoints of a graph's own namespace are read for one question. */
export interface View {
  readonly leaveOut: LeaveOut
  /** What the graph gets for the values of a checkpoint; undefined where it needs what was left out. `latest`: it goes on from
   *  there, so that all pending writes are applied. */
  values(stored: StoredCheckpoint, latest: boolean): ((channel: string, blob: Blob) => unknown) | undefined
}

// Where what is read by the name of this task is applied whatever is asked for.
const NO_TASK = '00000000-0000-0000-0000-000000000000'
const NOT_APPLIED = new Set(['__error__', '__interrupt__', '__scheduled__'])
/** Channels that hand on what they are given, and are the only ones of their kind to be called for it. */
const PLAIN_CHANNELS = new Set(['LastValue', 'BinaryOperatorAggregate'])

/** The view for a question that selects these parts of a state, or all; undefined where the graph may look into any value. */
export function createView(graph: Graph, codec: Codec, select: readonly string[] = []): View | undefined {
  if (looksInside(graph)) return undefined
  const shown = [graph.streamChannelsAsIs].flat().filter((name) => isPlain(graph.channels[name]))
  const isShown = new Set(shown)
  const wants = (part: string) => select.length === 0 || select.includes(part)
  const leaveOut = {
    values: wants('values') ? [] : shown.filter((name) => !select.includes(`values.${name}`)),
    writes: wants('tasks') ? [] : shown,
  }
  return {
    leaveOut,
    values(stored, latest) {
      const applied = new Set(
        stored.writes
          .filter(({ task_id, channel }) => task_id === NO_TASK || (latest && !NOT_APPLIED.has(channel)))
          .map(({ channel }) => channel),
      )
      const isMissing = ({ channel, blob }: { channel: string; blob: Blob }) => isLeftOut(blob) && applied.has(channel)
      if (stored.values.some(isMissing) || stored.writes.some(isMissing)) return undefined
      return (channel, blob) => {
        if (isLeftOut(blob)) return null
        return isShown.has(channel) && !applied.has(channel) && isTree(blob)
          ? new Plain(codec.plain(blob))
          : codec.decode(blob)
      }
    },
  }
}

/** A value, or a write, that was left out. The graph sees that there is one. */
export const isLeftOut = (blob: Blob): boolean => blob.type === 'left_out'

const isPlain = (channel: unknown): boolean => {
  const { lc_graph_name: name, constructor: made } = (channel ?? {}) as {
    lc_graph_name?: string
    constructor?: { name: string }
  }
  return name !== undefined && PLAIN_CHANNELS.has(name) && made?.name === name
}

/** Nodes that compute something of their input before they run. Those of a StateGraph only choose from it. */
const looksInside = (graph: Graph): boolean =>
  (Object.values(graph.nodes) as { mapper?: unknown; cachePolicy?: unknown }[]).some(
    ({ mapper, cachePolicy }) => cachePolicy !== undefined || (mapper !== undefined && !('builder' in graph)),
  )

const [BRACKET, BRACE] = ['[', '{'].map((char) => char.charCodeAt(0))
const TAGGED = Buffer.from(`{"${TAG}"`)

/** A list, or an object that is one: what is tagged may mean something to its channel. */
const isTree = ({ type, bytes }: Blob): boolean =>
  type === 'json' && (bytes[0] === BRACKET || (bytes[0] === BRACE && !TAGGED.equals(bytes.subarray(0, TAGGED.length))))
