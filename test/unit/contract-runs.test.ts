import { describe, expect, it } from 'vitest'
import { explain, problemOf } from '../../src/contract/problem.ts'
import { type RunCreate, statefulRun, statelessRun } from '../../src/contract/runs.ts'

const UUID = 'fe096781-5601-53d2-b2f6-0d3403f7e9ca'

const accept = (body: object, schema: typeof statefulRun | typeof statelessRun = statefulRun): RunCreate =>
  schema.parse({ assistant_id: 'agent', ...body })
const refusal = (body: unknown, schema: typeof statefulRun | typeof statelessRun = statefulRun) => {
  const { error } = schema.safeParse(body, { error: explain })
  return error && problemOf('body', error)
}

const defaults = {
  assistant_id: 'agent',
  config: {},
  metadata: {},
  stream_mode: ['values'],
  stream_subgraphs: false,
  stream_resumable: false,
  after_seconds: 0,
  strict_resume: false,
  on_disconnect: 'continue',
  multitask_strategy: 'enqueue',
}

describe('the body of a run', () => {
  it('has the defaults of the platform', () => {
    expect(accept({})).toEqual({ ...defaults, if_not_exists: 'reject', on_completion: 'keep' })
    expect(accept({}, statelessRun)).toEqual({ ...defaults, if_not_exists: 'create', on_completion: 'delete' })
  })

  it('takes null for absent in every field, and ignores keys it does not know', () => {
    const nulls = Object.keys({ ...defaults, input: 0, command: 0, context: 0, checkpoint: 0, checkpoint_id: 0 })
    const more = ['interrupt_before', 'interrupt_after', 'feedback_keys', 'durability', 'webhook', 'langsmith_tracer']
    const body = Object.fromEntries([...nulls, ...more].map((key) => [key, null]))
    const run = accept({ ...body, assistant_id: 'agent', assistantId: 'leftover', streamMode: ['x'] })
    expect(run).toEqual({ ...defaults, input: null, if_not_exists: 'reject', on_completion: 'keep' })
  })

  it('keeps a null input apart from an absent one', () => {
    expect('input' in accept({ input: null }) && accept({ input: null }).input).toBeNull()
    expect(accept({}).input).toBeUndefined()
  })

  it('takes stream modes one or many, once each, and values where the list is empty', () => {
    expect(accept({ stream_mode: 'updates' }).stream_mode).toEqual(['updates'])
    expect(accept({ stream_mode: ['messages-tuple', 'custom', 'custom'] }).stream_mode).toEqual([
      'messages-tuple',
      'custom',
    ])
    expect(accept({ stream_mode: [] }).stream_mode).toEqual(['values'])
  })

  it('maps checkpoint_during to a durability that was not given', () => {
    expect(accept({ checkpoint_during: true }).durability).toBe('async')
    expect(accept({ checkpoint_during: false }).durability).toBe('exit')
    expect(accept({ checkpoint_during: false, durability: 'sync' }).durability).toBe('sync')
  })

  it('finds the checkpoint to fork from wherever it is named', () => {
    const named = { checkpoint_id: UUID }
    expect(accept({ checkpoint: named }).checkpoint).toEqual(named)
    expect(accept({ checkpoint_id: UUID }).checkpoint).toEqual(named)
    const run = accept({ config: { configurable: { checkpoint_id: UUID, model: 'm' } } })
    expect(run.checkpoint).toEqual(named)
    expect(run.config).toEqual({ configurable: { model: 'm' } })
    expect(refusal({ assistant_id: 'a', config: { configurable: { checkpoint_id: {} } } })?.detail).toBe(
      'body.config.configurable.checkpoint_id: must be a UUID',
    )
  })

  it('drops the keys of configurable that the server sets itself', () => {
    const configurable = { thread_id: 'other', run_id: 'x', checkpoint_ns: 'a', langgraph_host: 'h', user: 'u' }
    expect(accept({ config: { configurable, recursion_limit: 5 } }).config).toEqual({
      configurable: { user: 'u' },
      recursion_limit: 5,
    })
  })

  it('takes commands as clients write them', () => {
    expect(accept({ command: { resume: null } }).command).toEqual({ resume: null })
    expect(accept({ command: { resume: 0 }, input: {} })).toMatchObject({ command: { resume: 0 }, input: undefined })
    const everything = { graph: null, update: [['a', 1]], resume: null, goto: [] }
    expect(accept({ command: everything }).command).toEqual({ update: [['a', 1]] })
    const goto = ['a', { node: 'b', input: { x: 1 } }]
    expect(accept({ command: { goto } }).command).toEqual({ goto })
  })

  it('takes interrupts before and after nodes, without a thread too', () => {
    expect(accept({ interrupt_before: '*', interrupt_after: ['a'] })).toMatchObject({
      interrupt_before: '*',
      interrupt_after: ['a'],
    })
    expect(accept({ interrupt_before: ['a', '*'] }, statelessRun).interrupt_before).toBe('*')
    expect(accept({ interrupt_before: [] }).interrupt_before).toBeUndefined()
  })

  it.each<[object, string]>([
    [{ assistant_id: undefined }, 'body.assistant_id: is required'],
    [{ assistant_id: '' }, 'body.assistant_id: must not be empty'],
    [{ assistant_id: ['a'] }, 'body.assistant_id: must be a string'],
    [{ input: { a: 1 }, command: { resume: 1 } }, 'body.input: cannot be given together with command'],
    [{ command: {} }, 'body.command: needs one of: update, resume, goto'],
    [{ command: { resumee: 1 } }, 'body.command: needs one of: update, resume, goto'],
    [{ after_seconds: -1 }, 'body.after_seconds: must be at least 0'],
    [{ after_seconds: '5' }, 'body.after_seconds: must be a number'],
    [{ durability: 'never' }, 'body.durability: must be one of: sync, async, exit'],
    [{ on_disconnect: 'stop' }, 'body.on_disconnect: must be one of: cancel, continue'],
    [{ multitask_strategy: 'queue' }, 'body.multitask_strategy: must be one of: reject, enqueue, interrupt, rollback'],
    [{ if_not_exists: true }, 'body.if_not_exists: must be one of: create, reject'],
    [{ interrupt_before: 'node' }, 'body.interrupt_before: must be one of: *, or an array'],
    [{ interrupt_before: [1] }, 'body.interrupt_before[0]: must be a string'],
    [{ metadata: 'x' }, 'body.metadata: must be an object'],
    [{ config: { recursion_limit: 0 } }, 'body.config.recursion_limit: must be at least 1'],
    [{ config: { tags: 'a' } }, 'body.config.tags: must be an array'],
    [
      { config: { configurable: { __pregel_send: 1 } } },
      'body.config.configurable.__pregel_send: is a name that the server keeps for itself',
    ],
    [
      { config: { configurable: { langgraph_auth_user: {} } } },
      'body.config.configurable.langgraph_auth_user: is a name that the server keeps for itself',
    ],
    [{ checkpoint: { checkpoint_id: 'x' } }, 'body.checkpoint.checkpoint_id: must be a UUID'],
    [{ checkpoint: { checkpoint_ns: {} } }, 'body.checkpoint.checkpoint_ns: must be a string'],
  ])('refuses %j', (part, detail) => {
    expect(refusal({ assistant_id: 'agent', ...part })).toEqual({ code: 'validation_failed', detail })
  })

  it('names the mode that does not exist', () => {
    expect(refusal({ assistant_id: 'a', stream_mode: ['values', 'vales'] })?.detail).toMatch(
      /^body\.stream_mode\[1\]: must be one of: values, updates, messages, messages-tuple, events, /,
    )
  })

  it('takes a webhook of at most 65,536 characters', () => {
    expect(accept({ webhook: 'https://example.com' }).webhook).toBe('https://example.com')
    expect(refusal({ assistant_id: 'a', webhook: 'a'.repeat(65_537) })).toEqual({
      code: 'validation_failed',
      detail: 'body.webhook: must be at most 65536 characters long',
    })
  })

  it('takes only keep and delete for what becomes of a thread of its own', () => {
    expect(accept({ on_completion: 'keep' }, statelessRun).on_completion).toBe('keep')
    expect(refusal({ assistant_id: 'a', on_completion: 'complete' }, statelessRun)?.detail).toBe(
      'body.on_completion: must be one of: delete, keep',
    )
  })
})
