// The commands of the thread protocol (v2): the envelope, what each command takes, and what comes back. In charge of
// the schemas and of both spellings that clients use; which commands a connection answers by itself is not known here.

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'
import { multitaskStrategy, optionsOf, type RunCreate, type RunOptions, runOptions, type StreamMode } from './runs.ts'
import { threadParams } from './threads.ts'

/** What a run that commands start streams to those that read it as a run. */
export const V2_STREAM_MODES: readonly StreamMode[] = [
  'values',
  'updates',
  'messages-tuple',
  'tools',
  'tasks',
  'custom',
]

/** Where in the tree of graphs: [] is the root. A segment is a node, with or without `:` and the id of its task. */
const namespace = z.array(z.string().min(1).max(1024)).max(64)
export type Namespace = z.output<typeof namespace>

const interruptId = z.string().min(1).max(512)
const uint = z.int().min(0)

// ------------------------------------------------------------------------------------------------ what runs take

// The protocol says what such a run streams, and that its client may leave and come back.
const {
  stream_mode: _mode,
  stream_subgraphs: _subgraphs,
  stream_resumable: _resumable,
  on_disconnect: _leave,
  input,
  command: _command,
  ...options
} = runOptions

type Asked = Omit<Parameters<typeof optionsOf>[0], 'command' | keyof typeof streamed>
const streamed = { stream_subgraphs: true, stream_resumable: true, on_disconnect: 'continue' } as const
const own = { multitask_strategy: 'enqueue', if_not_exists: 'reject', on_completion: 'keep', protocol: 'v2' } as const

const v2Options = (
  asked: Omit<Asked, 'stream_mode'> & { command?: c.Command | undefined },
  of: Partial<Parameters<typeof optionsOf>[1]>,
  context: z.RefinementCtx,
): RunOptions =>
  optionsOf(
    { command: undefined, ...asked, ...streamed, stream_mode: [...V2_STREAM_MODES] },
    { ...own, ...of },
    context,
  )

const runStart = z
  .object({
    assistant_id: c.assistantId,
    input,
    ...options,
    multitask_strategy: c.maybe(multitaskStrategy),
    multitaskStrategy: c.maybe(multitaskStrategy).meta({ description: 'The same, as some clients spell it.' }),
    if_not_exists: c.or(z.enum(['create', 'reject']), 'create'),
  })
  .transform((given, context): RunCreate => {
    const { assistant_id, multitask_strategy, multitaskStrategy: spelt, if_not_exists, ...rest } = given
    const strategy = multitask_strategy ?? spelt ?? 'enqueue'
    return { assistant_id, ...v2Options(rest, { multitask_strategy: strategy, if_not_exists }, context) }
  })

const answer = z.object({ namespace: c.maybe(namespace), interrupt_id: interruptId, response: z.unknown() })

/** Answers to interrupts: values by interrupt id, and how the run that takes them is to run. */
export interface Answers {
  responses: Record<string, unknown>
  options: RunOptions
}

const inputRespond = z
  .object({
    ...answer.partial().shape,
    responses: c.maybe(z.array(answer).min(1).max(1000)),
    update: c.maybe(z.union([c.object, z.array(z.tuple([z.string(), z.unknown()]))])),
    goto: z.unknown().optional(),
    ...options,
  })
  .transform((given, context): Answers => {
    const { namespace: _, interrupt_id, response, responses: many, update, goto, ...rest } = given
    const refuse = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message })
    if ((interrupt_id === undefined) === (many === undefined)) {
      refuse([], 'must have either interrupt_id and response, or responses')
    }
    const answers = many ?? [{ interrupt_id: interrupt_id ?? '', response }]
    answers.forEach((one, i) => {
      if (one.response !== undefined) return
      context.addIssue({
        code: 'custom',
        path: many ? ['responses', i, 'response'] : ['response'],
        message: 'is required',
      })
    })
    const responses = Object.fromEntries(answers.map((one) => [one.interrupt_id, one.response]))
    if (Object.keys(responses).length < answers.length) refuse(['responses'], 'must name each interrupt once')
    const command = c.command.safeParse({ resume: responses, update, goto })
    if (!command.success) for (const issue of command.error.issues) context.addIssue({ ...issue, input: undefined })
    const made = v2Options({ ...rest, command: command.data }, {}, context)
    if (made.checkpoint) refuse(['config', 'configurable', 'checkpoint_id'], 'cannot be given with an answer')
    return { responses, options: made }
  })

const inputInject = z
  .object({
    namespace: c.or(namespace, []),
    message: z.looseObject({
      role: z.enum(['user', 'system']),
      content: z.union([z.string(), z.array(c.object)]),
      name: c.maybe(z.string()),
    }),
    ...options,
  })
  .transform(({ namespace: within, message, ...rest }, context) => {
    if (within.length > 0) {
      const why = 'must be []: a message can be put into the root only'
      context.addIssue({ code: 'custom', path: ['namespace'], message: why, params: { code: 'not_supported' } })
    }
    const { name, ...said } = message
    const injected = { messages: [{ ...said, ...(name !== undefined && { name }) }] }
    return { options: v2Options({ ...rest, input: injected }, {}, context) }
  })

const stateFork = z
  .object({ checkpoint_id: c.id, input, ...options })
  .transform(({ checkpoint_id, ...rest }, context) => ({
    checkpoint_id,
    options: v2Options(rest, { checkpoint: { checkpoint_id } }, context),
  }))

// ------------------------------------------------------------------------------------------------ commands

/** What each command takes, by its method. */
export const commandParams = {
  'run.start': runStart,
  'input.respond': inputRespond,
  'input.inject': inputInject,
  'state.get': z.object({
    namespace: c.or(namespace, []),
    keys: c.maybe(z.array(z.string().min(1).max(1024)).max(1000)),
  }),
  'state.listCheckpoints': z.object({ namespace: c.or(namespace, []), limit: c.limit(10), before: c.maybe(c.id) }),
  'state.fork': stateFork,
  'agent.getTree': z.object({ run_id: c.maybe(c.id) }),
  'subscription.reconnect': z.object({
    run_id: c.id,
    last_event_id: c.maybe(z.string().max(256)),
    subscriptions: c.maybe(z.array(z.string().max(256)).max(1000)),
  }),
} as const
export type CommandMethod = keyof typeof commandParams
/** The parameters of a command as they come out of its schema. */
export type CommandParams<M extends CommandMethod> = z.output<(typeof commandParams)[M]>

/** What every command has; what is in `params` is judged by its method. */
export const envelope = z.object({
  id: uint,
  method: z.string().min(1).max(128),
  params: c.object.optional().default({}),
})

const command = z
  .union(
    Object.entries(commandParams).map(([method, params]) => z.object({ id: uint, method: z.literal(method), params })),
  )
  .meta({ id: 'Command' })

export const commandErrors = [
  'invalid_argument',
  'unknown_command',
  'unknown_error',
  'no_such_run',
  'no_such_subscription',
  'no_such_namespace',
  'no_such_interrupt',
  'no_such_checkpoint',
  'permission_denied',
  'not_supported',
] as const
export type CommandErrorCode = (typeof commandErrors)[number]

const meta = z.object({
  thread_id: z.string(),
  applied_through_seq: uint
    .optional()
    .describe("The thread's last event when the command was applied: what it caused comes after."),
})

/** The answer to a command. */
export const commandResponse = z
  .union([
    z.object({ type: z.literal('success'), id: uint, result: c.object, meta }),
    z.object({
      type: z.literal('error'),
      id: uint.nullable(),
      error: z.enum(commandErrors),
      message: z.string(),
      meta: meta.optional(),
    }),
  ])
  .meta({ id: 'CommandResponse' })
export type CommandResponse = z.output<typeof commandResponse>

export const sendCommand = endpoint({
  method: 'POST',
  path: '/threads/{thread_id}/commands',
  tag: 'Threads',
  summary: 'Send a command of the thread protocol',
  description:
    'A command that is refused is answered with status 200 and `type` "error"; one that is none, with status 400.',
  permission: 'threads:create_run',
  params: threadParams,
  body: command,
  bodyUnjudged: true,
  reply: commandResponse,
  errors: ['bad_request', 'executor_unavailable', 'shutting_down'],
})
