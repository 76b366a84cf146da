// Messages as the thread protocol tells them: a start, content blocks one after the other, a finish. In charge of making these
// of the chunks and messages that a run streams; never sends a block before the one before is finished.

type Fields = Record<string, unknown>

/** `data` of an event of the messages channel. */
export type MessageData = Fields & { event: string }

interface Block {
  index: number
  /** What tells a chunk of this block from one of another. */
  key: string
  content: Fields
}

interface Open {
  id: string
  started: boolean
  blocks: number
  block: Block | undefined
  /** How much of each block was told, for messages that come again and again with more. */
  told: Map<string, number>
  usage: Fields | undefined
  metadata: Fields
}

/** The messages of one run. */
export interface Messages {
  /** A chunk, or a whole message, of what speaks at `place`. */
  see(place: string, message: Fields, metadata: Fields): MessageData[]
  /** A message with all that was said so far, where no chunks come. */
  seeWhole(place: string, message: Fields, metadata: Fields): MessageData[]
  /** Ends the messages that are done; `failed` says why they stop in the middle. */
  finish(isDone: (place: string, id: string) => boolean, failed?: string): { place: string; data: MessageData[] }[]
}

const ROLES: Readonly<Record<string, string>> = { ai: 'ai', AIMessageChunk: 'ai', human: 'human', system: 'system' }

const roleOf = (type: string): string => ROLES[type] ?? type.replace(/MessageChunk$/, '').toLowerCase()

/** Follows the messages of a run from its beginning. */
export function createMessages(): Messages {
  const open = new Map<string, Map<string, Open>>()
  const done = new Set<string>()

  const begin = (place: string, message: Fields, metadata: Fields): Open | undefined => {
    const id = String(message.id ?? metadata.run_id ?? 'message')
    if (done.has(`${place}\n${id}`)) return undefined
    const here = open.get(place) ?? new Map<string, Open>()
    open.set(place, here)
    const known = here.get(id)
    if (known) return known
    const fresh: Open = {
      id,
      started: false,
      blocks: 0,
      block: undefined,
      told: new Map(),
      usage: undefined,
      metadata: {},
    }
    here.set(id, fresh)
    return fresh
  }
  const end = (place: string, message: Open, failed?: string): MessageData[] => {
    const here = open.get(place)
    here?.delete(message.id)
    if (here?.size === 0) open.delete(place)
    done.add(`${place}\n${message.id}`)
    return failed === undefined ? finished(message) : [{ event: 'error', ...calls(message.id), message: failed }]
  }
  const take = (place: string, message: Fields, metadata: Fields, whole: boolean): MessageData[] => {
    const now = begin(place, message, metadata)
    if (now === undefined) return []
    const isChunk = String(message.type).endsWith('Chunk')
    // A message that was told in chunks and now comes whole says nothing new.
    const says = isChunk || whole || !now.started
    const data = [...started(now, message, metadata), ...(says ? told(now, message, whole) : [])]
    noteEnd(now, message, whole)
    return isChunk ? data : [...data, ...end(place, now)]
  }

  return {
    see: (place, message, metadata) => take(place, message, metadata, false),
    seeWhole: (place, message, metadata) => take(place, message, metadata, true),
    finish: (isDone, failed) =>
      [...open].flatMap(([place, here]) =>
        [...here.values()]
          .filter(({ id }) => isDone(place, id))
          .map((message) => ({ place, data: end(place, message, failed) })),
      ),
  }
}

/** Which model call a piece belongs to: two may speak at one place at once. */
const calls = (id: string): Fields => ({ message_id: id, run_id: id.startsWith('run-') ? id.slice(4) : id })

function started(now: Open, message: Fields, metadata: Fields): MessageData[] {
  if (now.started) return []
  now.started = true
  const { ls_provider: provider, ls_model_name: model, ls_model_type: model_type, langgraph_node } = metadata
  const about = Object.entries({ provider, model, model_type, langgraph_node }).filter(([, value]) => isText(value))
  const call = message.tool_call_id
  return [
    {
      event: 'message-start',
      role: roleOf(String(message.type)),
      id: now.id,
      ...calls(now.id),
      ...(isText(call) && { tool_call_id: call }),
      ...(isText(message.name) && { name: message.name }),
      ...(about.length > 0 && { metadata: Object.fromEntries(about) }),
    },
  ]
}

function told(now: Open, message: Fields, whole: boolean): MessageData[] {
  return piecesOf(message).flatMap((piece) => {
    if (!whole) return advance(now, piece)
    const text = textOf(piece.content)
    const before = now.told.get(piece.key) ?? 0
    now.told.set(piece.key, text?.length ?? 1)
    if (text === undefined) return before > 0 ? [] : advance(now, piece)
    return text.length > before ? advance(now, { ...piece, content: withText(piece.content, text.slice(before)) }) : []
  })
}

interface Piece {
  key: string
  content: Fields
}

/** What a message or chunk holds: its content's blocks, and its tool calls. */
function piecesOf(message: Fields): Piece[] {
  const { content } = message
  const pieces: Piece[] = []
  if (isText(content)) pieces.push({ key: 'text', content: { type: 'text', text: content } })
  if (Array.isArray(content))
    for (const [i, part] of content.entries()) {
      const block = isText(part) ? { type: 'text', text: part } : normal(part)
      if (block) pieces.push({ key: `${String(block.type)} ${String(block.index ?? i)}`, content: block })
    }
  const chunks = listOf(message.tool_call_chunks)
  const calls = chunks.length > 0 ? chunks : String(message.type).endsWith('Chunk') ? [] : listOf(message.tool_calls)
  for (const [i, { id, name, args, index }] of calls.entries()) {
    const text = typeof args === 'string' ? args : args === undefined || args === null ? '' : JSON.stringify(args)
    pieces.push({
      key: `call ${String(index ?? id ?? i)}`,
      content: { type: 'tool_call_chunk', id: id ?? null, name: name ?? null, args: text },
    })
  }
  return pieces
}

// Providers have names of their own for what a model thinks, and some put tool calls into the content too.
function normal(part: unknown): Fields | undefined {
  if (typeof part !== 'object' || part === null) return undefined
  const block = part as Fields
  switch (block.type) {
    case 'thinking':
      return { ...block, type: 'reasoning', reasoning: block.thinking ?? '', thinking: undefined }
    case 'text_delta':
      return { ...block, type: 'text' }
    case 'tool_use':
    case 'tool_call':
    case 'tool_call_chunk':
    case 'input_json_delta':
    case 'functionCall':
      return undefined
    default:
      return isText(block.type) ? block : undefined
  }
}

const TEXT: Readonly<Record<string, string>> = { text: 'text', reasoning: 'reasoning', tool_call_chunk: 'args' }

const textOf = (content: Fields): string | undefined => {
  const field = TEXT[String(content.type)]
  return field === undefined ? undefined : String(content[field] ?? '')
}

const withText = (content: Fields, text: string): Fields => ({ ...content, [TEXT[String(content.type)] ?? '']: text })

function advance(now: Open, { key, content }: Piece): MessageData[] {
  const data: MessageData[] = []
  const text = textOf(content)
  let block = now.block
  if (block?.key !== key) {
    if (text === '' && content.type !== 'tool_call_chunk') return []
    data.push(...close(now))
    block = { index: now.blocks++, key, content: text === undefined ? content : withText(content, '') }
    now.block = block
    data.push({ event: 'content-block-start', ...calls(now.id), index: block.index, content: { ...block.content } })
    if (text === undefined) return data
  } else if (text === undefined) {
    block.content = { ...block.content, ...content }
    return [
      {
        event: 'content-block-delta',
        ...calls(now.id),
        index: block.index,
        delta: { type: 'block-delta', fields: content },
      },
    ]
  }
  for (const name of ['id', 'name', 'signature']) block.content[name] ??= content[name]
  if (text === undefined || text === '') return data
  block.content = withText(block.content, `${textOf(block.content)}${text}`)
  data.push({ event: 'content-block-delta', ...calls(now.id), index: block.index, delta: deltaOf(content, text) })
  return data
}

function deltaOf(content: Fields, text: string): Fields {
  if (content.type === 'tool_call_chunk') return { type: 'tool-call-delta', args: text }
  return content.type === 'reasoning' ? { type: 'reasoning-delta', reasoning: text } : { type: 'text-delta', text }
}

function close(now: Open): MessageData[] {
  const { block } = now
  if (block === undefined) return []
  now.block = undefined
  return [{ event: 'content-block-finish', ...calls(now.id), index: block.index, content: finalOf(block.content) }]
}

function finalOf(content: Fields): Fields {
  if (content.type !== 'tool_call_chunk') return content
  const { id, name, args } = content
  try {
    const parsed: unknown = JSON.parse(isText(args) ? args : '{}')
    if (typeof parsed === 'object' && parsed !== null) return { type: 'tool_call', id, name, args: parsed }
  } catch {
    // Said below.
  }
  return { type: 'invalid_tool_call', id, name, args, error: 'The arguments are not a JSON object.' }
}

function noteEnd(now: Open, message: Fields, whole: boolean): void {
  if (isObject(message.usage_metadata))
    now.usage = whole ? message.usage_metadata : added(now.usage, message.usage_metadata)
  if (isObject(message.response_metadata)) now.metadata = { ...now.metadata, ...message.response_metadata }
}

function added(before: Fields | undefined, more: Fields): Fields {
  if (before === undefined) return more
  const sum: Fields = { ...before }
  for (const [key, value] of Object.entries(more)) {
    const old = sum[key]
    sum[key] =
      typeof old === 'number' && typeof value === 'number'
        ? old + value
        : isObject(old) && isObject(value)
          ? added(old, value)
          : value
  }
  return sum
}

function finished(now: Open): MessageData[] {
  const { usage, metadata } = now
  return [
    ...close(now),
    {
      event: 'message-finish',
      ...calls(now.id),
      ...(usage && { usage }),
      ...(Object.keys(metadata).length > 0 && { responseMetadata: metadata }),
    },
  ]
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''
const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const listOf = (value: unknown): Fields[] => (Array.isArray(value) ? value.filter(isObject) : [])
