// A running graph's stream as events. In charge of names and payloads of every v1 mode; asks LangGraph for nothing that no
// client wants, because each mode costs time in the graph's process.

import { createEventBatch, type EventBatch } from './batch.ts'
import { checkpointPayload, debugPayload, NOTE } from './debug.ts'
import type { Graph, RunnableConfig } from './graph.ts'
import type { RunPort } from './guest.ts'
import type { LangChain } from './langchain.ts'
import { createLifecycle } from './lifecycle.ts'
import { createMessages } from './messages.ts'
import type { Job } from './protocol.ts'
import * as wire from './wire.ts'

type Chunk = [namespace: string[], mode: string, payload: unknown]

/** Streams the graph to its end. Rejects with what the graph threw. */
export async function drive(
  graph: Graph,
  input: unknown,
  config: RunnableConfig,
  job: Job,
  langchain: LangChain,
  port: RunPort,
): Promise<void> {
  const wanted = new Set(job.args.stream_mode)
  const lifecycle = wanted.has('lifecycle')
  const subgraphs = job.args.stream_subgraphs || lifecycle
  const batch = createEventBatch(port)
  const notes = job.args.protocol === 'v2'
  const emit = createEmitter(wanted, { subgraphs: job.args.stream_subgraphs, notes }, langchain, batch)
  // Asked with a version, LangGraph sends its notes on checkpoints.
  const streamConfig = { ...config, streamMode: graphModes(wanted), subgraphs, ...(notes && { version: 'v2' }) }
  try {
    const chunks = wanted.has('events')
      ? eventChunks(graph, input, streamConfig, job, batch)
      : await graph.stream(input, streamConfig)
    for await (const chunk of chunks) {
      const [namespace, mode, payload] = (subgraphs ? chunk : [[], ...(chunk as unknown[])]) as Chunk
      emit(namespace, mode, payload)
      const room = batch.room()
      if (room) await room
    }
  } finally {
    await batch.flush()
  }
}

function graphModes(wanted: ReadonlySet<string>): string[] {
  const modes = new Set<string>()
  for (const mode of wanted) {
    if (mode === 'messages-tuple') modes.add('messages')
    else if (mode === 'lifecycle') modes.add('tasks')
    else if (mode !== 'events') modes.add(mode)
  }
  return [...modes]
}

type Emit = (namespace: string[], mode: string, payload: unknown) => void

function createEmitter(
  wanted: ReadonlySet<string>,
  also: { subgraphs: boolean; notes: boolean },
  langchain: LangChain,
  batch: EventBatch,
): Emit {
  const messages = createMessages(langchain)
  const lifecycle = wanted.has('lifecycle') ? createLifecycle() : undefined
  const metadataText = createMetadataPrinter()
  // A person may be waiting for the first token.
  const sendText = (name: string, namespace: string[], text: string, urgent = false) =>
    batch.add(namespace.length ? `${name}|${namespace.join('|')}` : name, text, urgent)
  const send = (name: string, namespace: string[], value: unknown) => sendText(name, namespace, wire.print(value))

  return (namespace, mode, payload) => {
    if (lifecycle && mode === 'tasks')
      for (const event of lifecycle.see(namespace, payload)) send('lifecycle', event.namespace, event)
    if (namespace.length && !also.subgraphs) return
    switch (mode) {
      case 'messages': {
        const [message, metadata] = payload as [unknown, object]
        if (wanted.has('messages-tuple'))
          sendText('messages', namespace, `[${wire.print(message, { chunks: true })},${metadataText(metadata)}]`, true)
        if (wanted.has('messages'))
          for (const [name, value] of messages.see(payload as [never, never]))
            sendText(name, namespace, wire.print(value), true)
        return
      }
      case 'checkpoints': {
        // Beside whole checkpoints LangGraph sends short notes on them under the same mode.
        const data = checkpointPayload(payload)
        if (data && wanted.has('checkpoints')) send(mode, namespace, data)
        if (!data && also.notes) send(NOTE, namespace, payload)
        return
      }
      case 'debug':
        return send(mode, namespace, debugPayload(payload))
      default:
        if (wanted.has(mode)) send(mode, namespace, payload)
    }
  }
}

// All tokens of a message come with the same metadata object: printed once, it is a third of the cost of a token.
function createMetadataPrinter(): (metadata: object) => string {
  const texts = new WeakMap<object, string>()
  return (metadata) => {
    const known = texts.get(metadata)
    if (known !== undefined) return known
    const text = wire.print(metadata)
    texts.set(metadata, text)
    return text
  }
}

// With 'events', the graph runs inside streamEvents, and the other modes are the chunks its root run streams.
async function* eventChunks(
  graph: Graph,
  input: unknown,
  config: RunnableConfig,
  job: Job,
  batch: EventBatch,
): AsyncGenerator<unknown> {
  for await (const event of graph.streamEvents(input, { ...config, version: 'v2' })) {
    const tags = event.tags
    if (Array.isArray(tags) && tags.includes('langsmith:hidden')) continue
    const isRoot = event.event === 'on_chain_stream' && event.run_id === job.run_id
    if (isRoot) yield (event.data as { chunk: unknown }).chunk
    batch.add('events', wire.print(event, { chunks: true }))
  }
}
