// The `lifecycle` mode: an event when a subgraph starts and one when it ends, told from the tasks that are streamed.

type Fields = Record<string, unknown>

interface LifecycleEvent {
  event: 'started' | 'completed' | 'failed' | 'interrupted'
  namespace: string[]
  tool_call_id?: string
  error?: { error: string; message: string }
}

/** Follows a run's tasks. */
export function createLifecycle(): { see(namespace: string[], payload: unknown): LifecycleEvent[] } {
  const open = new Set<string>()
  const toolCalls = new Map<string, string>()
  const started = (namespace: string[]): LifecycleEvent[] => {
    const events: LifecycleEvent[] = []
    for (let depth = 1; depth <= namespace.length; depth++) {
      const path = namespace.slice(0, depth)
      const key = path.join('|')
      if (open.has(key)) continue
      open.add(key)
      const tool_call_id = toolCalls.get(path.at(-1)?.split(':').at(-1) ?? '')
      events.push({ event: 'started', namespace: path, ...(tool_call_id === undefined ? {} : { tool_call_id }) })
    }
    return events
  }
  return {
    see: (namespace, payload) => {
      const task = payload as Fields
      const events = started(namespace)
      if (!('result' in task)) {
        const id = toolCallOf(task.input)
        if (id !== undefined) toolCalls.set(String(task.id), id)
        return events
      }
      const path = [...namespace, `${String(task.name)}:${String(task.id)}`]
      return open.has(path.join('|')) ? [...events, endOf(path, task)] : events
    },
  }
}

function endOf(namespace: string[], task: Fields): LifecycleEvent {
  if (task.error) return { event: 'failed', namespace, error: errorOf(task.error) }
  const interrupts = Array.isArray(task.interrupts) ? task.interrupts.length : 0
  return { event: interrupts > 0 ? 'interrupted' : 'completed', namespace }
}

function errorOf(error: unknown): { error: string; message: string } {
  const { name, message } = (typeof error === 'object' && error !== null ? error : { message: error }) as Fields
  return { error: String(name ?? 'Error'), message: String(message) }
}

function toolCallOf(input: unknown): string | undefined {
  const call = Array.isArray(input) ? input[0] : (input as { tool_call?: unknown } | undefined)?.tool_call
  const id = (call as { id?: unknown } | undefined)?.id
  return typeof id === 'string' ? id : undefined
}
