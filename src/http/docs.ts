// The page that shows the API: one static document made from the OpenAPI document, without scripts and without anything
// fetched from elsewhere.

type Json = Record<string, unknown>

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const text = (value: unknown): string => String(value ?? '').replace(/[&<>"]/g, (char) => escapes[char] ?? char)
const prose = (value: unknown): string => text(value).replace(/`([^`]+)`/g, '<code>$1</code>')

/** What a browser may do on the page: show it. */
export const docsPolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 0.85rem/1.45 ui-monospace, monospace; }
pre { overflow: auto; padding: 0.75rem; border: 1px solid #8884; border-radius: 6px; }
details { border: 1px solid #8884; border-radius: 6px; margin: 0.4rem 0; padding: 0.3rem 0.8rem; }
details details { border: 0; padding: 0; }
summary { cursor: pointer; }
.method { display: inline-block; width: 4.5rem; font: 600 0.85rem ui-monospace, monospace; }
.what { color: #888; margin-left: 0.5rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid #8882; }
`

/** The page for an OpenAPI document, as HTML. */
export function docsPage(document: Json): string {
  const info = document.info as Json
  const paths = Object.entries(document.paths as Record<string, Record<string, Json>>)
  const operations = paths.flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  )
  const sections = (document.tags as { name: string }[]).map(({ name }) => {
    const own = operations.filter(({ operation }) => (operation.tags as string[]).includes(name))
    return `<h2>${text(name)}</h2>\n${own.map(section).join('\n')}`
  })
  const schemas = Object.entries((document.components as { schemas: Json }).schemas).map(
    ([name, schema]) =>
      `<details id="schema-${text(name)}"><summary><code>${text(name)}</code></summary>${block(schema)}</details>`,
  )
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${text(info.title)} API</title><style>${style}</style></head>
<body><h1>${text(info.title)} API <small>${text(info.version)}</small></h1>
<p>${prose(info.description)} The same as a document for tools: <a href="openapi.json">openapi.json</a>.</p>
${sections.join('\n')}
<h2>Schemas</h2>
${schemas.join('\n')}
</body></html>
`
}

function section({ path, method, operation }: { path: string; method: string; operation: Json }): string {
  const parameters = (operation.parameters ?? []) as Json[]
  const body = (operation.requestBody as { content: Record<string, Json> } | undefined)?.content
  const rows = parameters.map(
    ({ name, in: place, required, schema, description }) =>
      `<tr><td><code>${text(name)}</code></td><td>${text(place)}${required ? ', required' : ''}</td>` +
      `<td>${prose(description) || `<code>${text(JSON.stringify(schema))}</code>`}</td></tr>`,
  )
  return `<details id="${text(operation.operationId)}"><summary><span class="method">${text(method)}</span>
<code>${text(path)}</code><span class="what">${text(operation.summary)}</span></summary>
${operation.description ? `<p>${prose(operation.description)}</p>` : ''}
${rows.length ? `<table><tr><th>Parameter</th><th>In</th><th></th></tr>${rows.join('')}</table>` : ''}
${body ? `<h4>Body</h4>${contents(body)}` : ''}
<h4>Answers</h4>${Object.entries(operation.responses as Record<string, Json>)
    .map(answer)
    .join('')}
</details>`
}

function answer([status, response]: [string, Json]): string {
  const said = `<p><b>${text(status)}</b> ${prose(response.description)}</p>`
  return Number(status) >= 400 ? said : `${said}${contents((response.content ?? {}) as Record<string, Json>)}`
}

const contents = (content: Record<string, Json>): string =>
  Object.entries(content)
    .map(([type, { schema }]) => `<p><code>${text(type)}</code></p>${block(schema)}`)
    .join('')

function block(schema: unknown): string {
  const reference = (schema as { $ref?: string } | undefined)?.$ref?.split('/').at(-1)
  if (reference) return `<p><a href="#schema-${text(reference)}">${text(reference)}</a></p>`
  return `<pre>${text(JSON.stringify(schema, null, 2))}</pre>`
}
