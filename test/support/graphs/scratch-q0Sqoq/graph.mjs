import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { Annotation, START, StateGraph } from '@langchain/langgraph'

const S = Annotation.Root({
  here: Annotation(),
  gate: Annotation(),
  act: Annotation(),
  pid: Annotation(),
  said: Annotation(),
})
const later = async (ms) => {
  await delay(ms)
  throw new Error('late by ' + ms)
}
export const graph = new StateGraph(S)
  .addNode('n', async ({ here, gate, act }, { signal }) => {
    if (here) writeFileSync(here, String(process.pid))
    if (act === 'reject later') void later(50)
    if (act === 'reject when stopped') signal.addEventListener('abort', () => void later(0))
    while (gate && !existsSync(gate)) await delay(10)
    return { pid: process.pid, said: 'old' }
  })
  .addEdge(START, 'n')
  .compile()
export const made = (config, { accessContext }) => {
  if (accessContext === 'assistants.read') process.exit(3)
  return graph
}
