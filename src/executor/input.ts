// A run's input as LangGraph takes it: the input itself, or a Command.

import type { LangChain } from './langchain.ts'
import type { RunArguments } from './protocol.ts'

type CommandBody = NonNullable<RunArguments['command']>

/** What to start or resume the graph with. */
export function inputOf(args: RunArguments, langchain: LangChain): unknown {
  return args.command ? commandOf(args.command, langchain) : (args.input ?? null)
}

/** A Command of the graph project's own class. */
export function commandOf(command: CommandBody, { langgraph }: LangChain): unknown {
  const { update, resume, goto } = command
  return new langgraph.Command({
    ...(update === undefined || update === null ? {} : { update: update as never }),
    ...(resume === undefined ? {} : { resume }),
    ...(goto === undefined || goto === null ? {} : { goto: gotoOf(goto, langgraph.Send) as never }),
  })
}

type SendClass = LangChain['langgraph']['Send']

function gotoOf(goto: unknown, Send: SendClass): unknown {
  if (Array.isArray(goto)) return goto.map((item) => gotoOf(item, Send))
  if (typeof goto !== 'object' || goto === null) return goto
  const { node, input, args } = goto as { node?: unknown; input?: unknown; args?: unknown }
  return new Send(String(node), input ?? args)
}
