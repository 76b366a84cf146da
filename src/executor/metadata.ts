// What of a run's metadata is stored with a checkpoint. Must never let a credential or an internal value through.

// LangGraph's bookkeeping: redundant with the checkpoint's own address and tasks, or for traces only. A thread has many
// checkpoints, and every one would carry it.
const INTERNAL = new Set([
  'thread_id',
  'checkpoint_id',
  'checkpoint_ns',
  'checkpoint_map',
  'langgraph_step',
  'langgraph_node',
  'langgraph_triggers',
  'langgraph_path',
  'langgraph_checkpoint_ns',
  'langgraph_host',
  'langgraph_plan',
  'ls_integration',
])

const SECRET =
  /^(authorization|proxy-authorization|cookie|set-cookie|x-api-key|x-tenant-id|x-service-key|langgraph_auth_.*|langgraph_request_id)$/i

/** The metadata of a run's config and of a checkpoint as one JSON object, without secrets and internals. */
export function storedMetadata(
  run: Record<string, unknown> | undefined,
  checkpoint: Record<string, unknown>,
): Record<string, unknown> {
  const stored: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(run ?? {})) {
    if (key.startsWith('__') || INTERNAL.has(key) || SECRET.test(key)) continue
    const plain = plainOf(value)
    if (plain !== undefined) stored[key] = plain
  }
  for (const [key, value] of Object.entries(checkpoint)) {
    if (key === '__proto__') continue
    const plain = plainOf(value)
    if (plain !== undefined) stored[key] = plain
  }
  return stored
}

/** A value as JSON gives it back; undefined for what JSON has no form for. */
function plainOf(value: unknown): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number') return Number.isFinite(value) ? value : null
  try {
    const text = JSON.stringify(value)
    return text === undefined ? undefined : JSON.parse(text)
  } catch {
    return undefined
  }
}
