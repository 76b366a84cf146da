// A chat page as the hooks' users write one: `useStream` of today's package, or the older one of the client (`?hook=old`). In
// charge of showing everything the hook says, for a test to read.

import { useStream as useOldStream } from '@langchain/langgraph-sdk/react'
import { useStream } from '@langchain/react'
import { type FormEvent, useState } from 'react'
import { createRoot } from 'react-dom/client'

const query = new URLSearchParams(location.search)
const apiUrl = query.get('api') ?? ''
const assistantId = query.get('assistant') ?? ''

/** The thread is in the address, so that a reload finds it again. */
function useThreadInAddress() {
  const [thread, setThread] = useState(query.get('thread'))
  const remember = (id: string) => {
    query.set('thread', id)
    history.replaceState(null, '', `?${query}`)
    setThread(id)
  }
  return [thread, remember] as const
}

function Chat() {
  const [threadId, onThreadId] = useThreadInAddress()
  const transport = query.get('transport') === 'websocket' ? 'websocket' : 'sse'
  const stream = useStream<{ messages: unknown[] }>({ apiUrl, assistantId, transport, threadId, onThreadId })
  return (
    <Page
      messages={stream.messages.map(({ id, type, text }) => ({ id, type, text }))}
      calls={stream.toolCalls.map(({ id, name, output, status }) => ({
        id,
        text: `${name} ${status} ${show(output)}`,
      }))}
      questions={stream.interrupts.map(({ id, value }) => ({ id: id ?? '', text: show(value) }))}
      isLoading={stream.isLoading || stream.isThreadLoading}
      error={stream.error}
      say={(content) => void stream.submit({ messages: [{ type: 'human', content }] })}
      answer={(answers) => void stream.respondAll(answers)}
    />
  )
}

interface OldMessage {
  id?: string
  type: string
  content: string | { text?: string }[]
}

function OldChat() {
  const [threadId, onThreadId] = useThreadInAddress()
  const stream = useOldStream<{ messages: OldMessage[] }>({ apiUrl, assistantId, threadId, onThreadId })
  return (
    <Page
      messages={stream.messages.map(({ id, type, content }) => ({
        id,
        type,
        text:
          typeof content === 'string' ? content : content.map((block) => ('text' in block ? block.text : '')).join(''),
      }))}
      calls={[]}
      questions={stream.interrupts.map(({ id, value }) => ({ id: id ?? '', text: show(value) }))}
      isLoading={stream.isLoading || stream.isThreadLoading}
      error={stream.error}
      say={(content) => void stream.submit({ messages: [{ type: 'human', content }] })}
      answer={(answers) => void stream.submit(undefined, { command: { resume: answers } })}
    />
  )
}

interface Shown {
  messages: { id?: string | undefined; type: string; text: string }[]
  calls: { id: string; text: string }[]
  questions: { id: string; text: string }[]
  isLoading: boolean
  error: unknown
  say(words: string): void
  answer(answers: Record<string, string>): void
}

function Page({ messages, calls, questions, isLoading, error, say, answer }: Shown) {
  const [words, setWords] = useState('')
  const submit = (event: FormEvent) => {
    event.preventDefault()
    say(words)
  }
  return (
    <main aria-busy={isLoading}>
      <ol id="messages">
        {messages.map(({ id, type, text }) => (
          <li key={id}>{`${type}: ${text}`}</li>
        ))}
      </ol>
      <ul id="calls">
        {calls.map(({ id, text }) => (
          <li key={id}>{text}</li>
        ))}
      </ul>
      <ul id="questions">
        {questions.map(({ id, text }) => (
          <li key={id}>{text}</li>
        ))}
      </ul>
      <p role="alert">{error === undefined || error === null ? '' : String(error)}</p>
      <form onSubmit={submit}>
        <input value={words} onChange={({ target }) => setWords(target.value)} />
        <button type="submit">Say</button>
      </form>
      <button
        type="button"
        id="answer"
        onClick={() => answer(Object.fromEntries(questions.map(({ id }) => [id, 'yes'])))}
      >
        Yes to all
      </button>
    </main>
  )
}

const show = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value))

const root = document.getElementById('root')
if (root) createRoot(root).render(query.get('hook') === 'old' ? <OldChat /> : <Chat />)
