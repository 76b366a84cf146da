// Reads the sources and says where they break the rules of the layers. In charge of the rules as data and of finding every
// breach; the test of the same name runs it on the repository and proves on bad snippets that it can find something.

import ts from 'typescript'

/** Paths relative to the repository, with `/`, and the text. */
export type Sources = Readonly<Record<string, string>>

/** Which layers a layer may import, besides itself and the leaves. */
const allowed: Record<string, readonly string[]> = {
  cli: ['app', 'http', 'worker', 'runs', 'graph', 'executor', 'db', 'bus', 'protocol', 'contract'],
  index: ['app', 'http', 'worker', 'runs', 'graph', 'executor', 'db', 'bus', 'protocol', 'contract'],
  app: ['http', 'worker', 'runs', 'graph', 'executor', 'db', 'bus', 'auth', 'protocol', 'contract'],
  http: ['runs', 'graph', 'executor', 'db', 'bus', 'auth', 'protocol', 'contract'],
  worker: ['runs', 'graph', 'executor', 'db', 'bus', 'auth', 'protocol', 'contract'],
  runs: ['graph', 'executor', 'db', 'bus', 'auth', 'protocol', 'contract'],
  graph: ['executor', 'db', 'protocol', 'contract'],
  auth: ['db', 'contract'],
  executor: ['protocol', 'contract'],
  db: ['protocol', 'contract'],
  bus: ['contract'],
  protocol: [],
  contract: [],
  config: [],
  errors: [],
  observe: [],
}
const leaves = ['config', 'errors', 'observe']
/** Files directly in src: the settings are spread over several, the others are their own layer. */
const layerOfFile: Record<string, string> = {
  variables: 'config',
  'aes-keys': 'config',
  failpoints: 'config',
  changes: 'config',
  pieces: 'config',
  splices: 'config',
  ids: 'config',
  tiering: 'config',
  'langgraph-json': 'config',
  'langgraph-keys': 'config',
  'langgraph-webhooks': 'config',
}

/** Packages that only one layer may know. */
const owners: readonly { of: RegExp; layer: string }[] = [
  { of: /^(hono|@hono\/.*)$/, layer: 'http' },
  { of: /^(pg|pg-.*|@electric-sql\/.*)$/, layer: 'db' },
  { of: /^(redis|@redis\/.*)$/, layer: 'bus' },
  { of: /^(@langchain\/.*|langchain|langsmith)$/, layer: 'executor' },
]
/** The first module of a thread may keep what the thread knows: it has no caller who could. */
const THREADS = /^src\/executor\/(loader-hooks|types-worker)\.ts$/
const MAX_LINES = 400
const REFUSED_FOLDERS = /(^|\/)(services|utils|helpers|types|core|common)\//
/** The settings read it; an executor sets what LangChain reads. */
const MAY_TOUCH_ENV = /^src\/(config|variables|executor\/(child|inline))\.ts$/

/** One sentence for each breach, sorted; empty when there is none. */
export function breaches(sources: Sources): string[] {
  const found: string[] = []
  const graph = new Map<string, string[]>()
  for (const [path, text] of Object.entries(sources)) {
    const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true)
    const targets = importsOf(file)
    graph.set(
      path,
      targets.flatMap((target) => (target.startsWith('.') ? [resolve(path, target)] : [])),
    )
    found.push(...imports(path, targets), ...shape(path, text), ...code(path, file))
  }
  return [...found, ...cycles(graph)].sort()
}

function imports(path: string, targets: string[]): string[] {
  const layer = layerOf(path)
  const may = allowed[layer]
  if (!may) return [`${path}: ${layer} is no known layer`]
  return targets.flatMap((target) => {
    if (!target.startsWith('.')) {
      const owner = owners.find(({ of }) => of.test(packageOf(target)))
      if (owner && owner.layer !== layer) return [`${path}: imports ${target}, which only ${owner.layer}/ may`]
      if (layer === 'contract' && packageOf(target) !== 'zod')
        return [`${path}: imports ${target}; a contract imports only zod`]
      return []
    }
    const to = layerOf(resolve(path, target))
    if (to === layer || may.includes(to) || (leaves.includes(to) && layer !== 'errors')) return []
    return [`${path}: ${layer} may not import ${to} (${target})`]
  })
}

function shape(path: string, text: string): string[] {
  const found = []
  const lines = text.split('\n').length - 1
  if (lines > MAX_LINES) found.push(`${path}: ${lines} lines, more than ${MAX_LINES}`)
  if (!text.startsWith('// ')) found.push(`${path}: does not begin with a comment that says what it is in charge of`)
  if (REFUSED_FOLDERS.test(path)) found.push(`${path}: is in a folder whose name says nothing`)
  return found
}

function code(path: string, file: ts.SourceFile): string[] {
  const found: string[] = []
  const line = (node: ts.Node) => `${path}:${file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1}`
  const collections = new Set<string>()
  for (const statement of file.statements) {
    if (ts.isExportAssignment(statement) || isDefault(statement)) found.push(`${line(statement)}: has a default export`)
    if (!ts.isVariableStatement(statement)) continue
    if (!(statement.declarationList.flags & ts.NodeFlags.Const))
      found.push(`${line(statement)}: has mutable module-level state`)
    for (const { name, initializer } of statement.declarationList.declarations) {
      if (ts.isIdentifier(name) && initializer && isCollection(initializer)) collections.add(name.text)
    }
  }
  const visit = (node: ts.Node): void => {
    const changed = changedBy(node)
    if (changed && collections.has(changed) && !THREADS.test(path))
      found.push(`${line(node)}: changes ${changed}, which is module-level`)
    if (isEnv(node) && !MAY_TOUCH_ENV.test(path)) found.push(`${line(node)}: reads process.env`)
    ts.forEachChild(node, visit)
  }
  visit(file)
  return found
}

const isDefault = (statement: ts.Statement): boolean =>
  ts.canHaveModifiers(statement) &&
  (ts.getModifiers(statement) ?? []).some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword)

const isEnv = (node: ts.Node): boolean =>
  (ts.isPropertyAccessExpression(node) && node.name.text === 'env' && node.expression.getText() === 'process') ||
  (ts.isImportSpecifier(node) && node.name.text === 'env')

function isCollection(node: ts.Expression): boolean {
  if (ts.isAsExpression(node) || ts.isSatisfiesExpression(node)) return isCollection(node.expression)
  if (ts.isNewExpression(node)) return /^(Weak)?(Map|Set)$/.test(node.expression.getText())
  return ts.isArrayLiteralExpression(node) || ts.isObjectLiteralExpression(node)
}

/** The name of what a call or an assignment changes in place. */
function changedBy(node: ts.Node): string | undefined {
  if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
    const { expression, name } = node.expression
    const changes = /^(set|add|delete|clear|push|pop|shift|unshift|splice|sort|reverse|fill)$/.test(name.text)
    return changes ? expression.getText() : undefined
  }
  if (!ts.isBinaryExpression(node) || !isAssignment(node.operatorToken.kind)) return undefined
  const { left } = node
  return ts.isPropertyAccessExpression(left) || ts.isElementAccessExpression(left)
    ? left.expression.getText()
    : undefined
}

const isAssignment = (kind: ts.SyntaxKind): boolean =>
  kind >= ts.SyntaxKind.FirstAssignment && kind <= ts.SyntaxKind.LastAssignment

/** What a file imports or exports from, dynamically too. */
function importsOf(file: ts.SourceFile): string[] {
  const found: string[] = []
  const visit = (node: ts.Node): void => {
    const from =
      ts.isImportDeclaration(node) || ts.isExportDeclaration(node)
        ? node.moduleSpecifier
        : ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword
          ? node.arguments[0]
          : ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)
            ? node.argument.literal
            : undefined
    if (from && ts.isStringLiteralLike(from)) found.push(from.text)
    ts.forEachChild(node, visit)
  }
  visit(file)
  return found
}

/** A cycle once, from its first file on. */
function cycles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const found = new Set<string>()
  const done = new Set<string>()
  const walk = (path: string, trail: string[]): void => {
    const at = trail.indexOf(path)
    if (at >= 0) {
      const ring = trail.slice(at)
      const first = ring.indexOf([...ring].sort()[0] as string)
      const turned = [...ring.slice(first), ...ring.slice(0, first)]
      found.add(`${turned[0]}: is in a cycle: ${[...turned, turned[0]].join(' → ')}`)
      return
    }
    if (done.has(path)) return
    for (const next of graph.get(path) ?? []) walk(next, [...trail, path])
    done.add(path)
  }
  for (const path of graph.keys()) walk(path, [])
  return [...found]
}

function layerOf(path: string): string {
  // The executor protocol, and what is stored, are data that the layers on both sides of it know.
  if (path === 'src/executor/protocol.ts' || path === 'src/executor/stored.ts') return 'protocol'
  const [first = '', ...rest] = path.replace(/^src\//, '').split('/')
  if (rest.length > 0) return first
  const name = first.replace(/\.[cm]?tsx?$/, '')
  return layerOfFile[name] ?? name
}

const packageOf = (target: string): string =>
  target
    .split('/')
    .slice(0, target.startsWith('@') ? 2 : 1)
    .join('/')

const resolve = (from: string, target: string): string => {
  const parts = from.split('/').slice(0, -1)
  for (const part of target.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '.') parts.push(part)
  }
  return parts.join('/')
}
