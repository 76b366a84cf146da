// Server-sent events as tests read them. In charge of taking a stream apart by the standard, so that a frame that only one
// client happens to accept is found; never fills anything in.

/** An event; `data` is parsed. */
export interface SeenEvent {
  id: string | undefined
  event: string
  // biome-ignore lint/suspicious/noExplicitAny: payloads of every kind, compared whole
  data: any
}

/** A stream that is read bit by bit. */
export interface EventReader {
  /** The next event, or undefined at the end. */
  next(): Promise<SeenEvent | undefined>
  /** Every event up to the first that fits, with it; fails when the stream ends before. */
  upTo(fits: (event: SeenEvent) => boolean): Promise<SeenEvent[]>
  /** Every event there still is. */
  rest(): Promise<SeenEvent[]>
  /** Leaves, as a client that closes its connection does. */
  leave(): Promise<void>
}

/** Reads the events of an answer; fails unless it is a stream with status 200. */
export function readEvents(response: Response): EventReader {
  const type = response.headers.get('content-type') ?? ''
  if (response.status !== 200 || !type.includes('text/event-stream') || response.body === null)
    throw new Error(`not a stream of events: ${response.status} ${type}`)
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''

  const next = async (): Promise<SeenEvent | undefined> => {
    for (;;) {
      const end = text.indexOf('\n\n')
      if (end >= 0) {
        const frame = text.slice(0, end)
        text = text.slice(end + 2)
        const event = parse(frame)
        if (event) return event
        continue
      }
      const chunk = await reader.read()
      if (chunk.done) {
        if (text !== '') throw new Error(`the stream broke off in a frame: ${text}`)
        return undefined
      }
      text += chunk.value
    }
  }
  const upTo: EventReader['upTo'] = async (fits) => {
    const seen: SeenEvent[] = []
    for (;;) {
      const event = await next()
      if (event === undefined) throw new Error(`the stream ended after ${JSON.stringify(seen)}`)
      seen.push(event)
      if (fits(event)) return seen
    }
  }
  return {
    next,
    upTo,
    rest: async () => {
      const seen: SeenEvent[] = []
      for (let event = await next(); event; event = await next()) seen.push(event)
      return seen
    },
    leave: () => reader.cancel(),
  }
}

function parse(frame: string): SeenEvent | undefined {
  const fields = new Map<string, string>()
  for (const line of frame.split('\n')) {
    if (line.startsWith(':')) continue
    const colon = line.indexOf(': ')
    const name = line.slice(0, colon)
    if (fields.has(name)) throw new Error(`two lines of ${name} in ${frame}`)
    fields.set(name, line.slice(colon + 2))
  }
  const event = fields.get('event')
  if (event === undefined) return undefined
  return { id: fields.get('id'), event, data: JSON.parse(fields.get('data') as string) }
}
