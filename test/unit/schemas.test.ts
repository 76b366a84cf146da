import { copyFile, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { createSchemas, type Schemas } from '../../src/executor/schemas.ts'
import { agent } from '../support/schemas/agent.ts'
import * as annotated from '../support/schemas/annotated.ts'
import { graph as nested } from '../support/schemas/nested.js'
import { workflow } from '../support/schemas/workflow.ts'
import { graph as zod } from '../support/schemas/zod.ts'

const fixture = (name: string) => fileURLToPath(new URL(`../support/schemas/${name}`, import.meta.url))
const MESSAGES = expect.objectContaining({ type: 'array', langgraph_type: 'messages' })

describe('a graph written in TypeScript', () => {
  const warnings: string[] = []
  const schemas = createSchemas({ warn: (reason) => warnings.push(reason) })
  afterAll(() => schemas.close())
  const of = (name: string, graph: unknown = annotated.graph) =>
    schemas.of(graph, { graph_id: 'g', path: fixture('annotated.ts'), export: name })

  test('is described by its types, read beside the event loop', async () => {
    let turns = 0
    const counting = setInterval(() => turns++, 5)
    const { state_schema, input_schema, output_schema, config_schema, context_schema } = await of('graph')
    clearInterval(counting)
    expect(turns).toBeGreaterThan(20)
    const note = {
      type: 'object',
      properties: {
        text: { type: 'string', description: 'What it says.' },
        kind: { type: 'string', enum: ['idea', 'task'] },
        done: { type: 'boolean' },
        at: { type: 'string', format: 'date-time' },
        below: { type: 'array', items: { $ref: '#/definitions/Note' } },
      },
      required: ['text', 'kind', 'at', 'below'],
    }
    expect(state_schema).toEqual({
      $schema: 'http://json-schema.org/draft-07/schema#',
      type: 'object',
      properties: {
        messages: MESSAGES,
        count: { type: 'number', description: 'How often it ran.' },
        title: { anyOf: [{ type: 'null' }, { type: 'string' }] },
        notes: { type: 'array', items: { $ref: '#/definitions/Note' } },
        scores: { type: 'object', additionalProperties: { type: 'number' } },
        last: expect.objectContaining({ title: 'BaseMessage' }),
        file: {
          type: 'object',
          properties: { bytes: { type: 'string', contentEncoding: 'base64' }, from: { type: 'string', format: 'uri' } },
          required: ['bytes'],
        },
      },
      required: expect.arrayContaining(['messages', 'count', 'title', 'notes', 'scores', 'last', 'file']),
      definitions: { Note: note },
    })
    expect(output_schema).toEqual(state_schema)
    expect(input_schema).toEqual({
      $schema: 'http://json-schema.org/draft-07/schema#',
      type: 'object',
      properties: {
        messages: MESSAGES,
        title: { anyOf: [{ type: 'null' }, { type: 'string' }] },
        notes: { type: 'array', items: { $ref: '#/definitions/Note' } },
      },
      definitions: { Note: note },
    })
    expect(context_schema).toEqual({
      $schema: 'http://json-schema.org/draft-07/schema#',
      type: 'object',
      properties: { user_id: { type: 'string' }, mode: { type: 'string', enum: ['fast', 'slow'] } },
      required: ['user_id'],
    })
    expect(config_schema).toEqual(context_schema)
  })

  test.each(['uncompiled', 'promised', 'made'])('is described alike when exported %s', async (name) => {
    expect(await of(name)).toEqual(await of('graph'))
  })

  test('whose export has no graph type is described by its channels, and the reason is told once', async () => {
    const first = await of('mistyped')
    expect(await of('mistyped')).toEqual(first)
    expect(first).toEqual({
      state_schema: {
        type: 'object',
        properties: {
          messages: MESSAGES,
          count: {},
          title: {},
          notes: { type: 'array' },
          scores: {},
          last: {},
          file: {},
        },
      },
      output_schema: first.state_schema,
      input_schema: { type: 'object', properties: { messages: MESSAGES, title: {}, notes: { type: 'array' } } },
      config_schema: null,
      context_schema: null,
    })
    expect(warnings).toEqual([
      `The types of graph "g" (${fixture('annotated.ts')}) give no schemas: the type of "mistyped" is not that of a graph.`,
    ])
  })

  test('of the functional API is described by what goes in and out', async () => {
    const source = { graph_id: 'w', path: fixture('workflow.ts'), export: 'workflow' }
    expect(await schemas.of(workflow, source)).toMatchObject({
      input_schema: { properties: { topic: { type: 'string' } }, required: ['topic'] },
      output_schema: { properties: { words: { type: 'array', items: { type: 'string' } } } },
    })
  })
})

describe('what was read from types is remembered', () => {
  const made: { folder: string; schemas: Schemas[] }[] = []
  afterEach(async () => {
    for (const { folder, schemas } of made.splice(0)) {
      await Promise.all(schemas.map((each) => each.close()))
      await rm(folder, { recursive: true, force: true })
    }
  })

  async function project() {
    const folder = await mkdtemp(join(tmpdir(), 'heddle-schemas-'))
    const used: Schemas[] = []
    made.push({ folder, schemas: used })
    for (const name of ['annotated.ts', 'note.ts']) await copyFile(fixture(name), join(folder, name))
    await symlink(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(folder, 'node_modules'))
    const warnings: string[] = []
    const start = (timeoutMs = 30_000) => {
      const schemas = createSchemas({ cacheDir: join(folder, 'cache'), timeoutMs, warn: (text) => warnings.push(text) })
      used.push(schemas)
      return () => schemas.of(annotated.graph, { graph_id: 'g', path: join(folder, 'annotated.ts'), export: 'graph' })
    }
    return { folder, start, warnings }
  }

  test('by the content of the graph and its imports, over a restart too', async () => {
    const { folder, start, warnings } = await project()
    const ask = start()
    const answers = await Promise.all([ask(), ask(), ask()])
    expect(answers[0]?.state_schema).toHaveProperty('definitions.Note.properties.text')
    expect(new Set(answers.map((answer) => answer.state_schema)).size).toBe(1)
    const begin = performance.now()
    expect(await ask()).toEqual(answers[0])
    expect(performance.now() - begin).toBeLessThan(500)

    // A millisecond is not enough to read types: the answer can only come from the disk.
    expect(await start(1)()).toEqual(answers[0])
    expect(warnings).toEqual([])
    expect(await readdir(join(folder, 'cache'))).toHaveLength(1)

    const note = await readFile(join(folder, 'note.ts'), 'utf8')
    await writeFile(join(folder, 'note.ts'), note.replace('text: string', 'words: number'))
    expect((await ask()).state_schema).toHaveProperty('definitions.Note.properties.words.type', 'number')
  })

  test('a reading that takes too long is given up, said, and not tried again', async () => {
    const { start, warnings } = await project()
    const ask = start(1)
    const answer = await ask()
    expect(answer.state_schema).toMatchObject({ properties: { messages: MESSAGES } })
    expect(answer.context_schema).toBeNull()
    expect(warnings).toEqual([expect.stringContaining('the types were not known after 1 ms')])
    const begin = performance.now()
    expect(await ask()).toEqual(answer)
    expect(performance.now() - begin).toBeLessThan(500)
  })
})

describe('a graph that knows its schemas at run time', () => {
  const schemas = createSchemas({ timeoutMs: 1 })
  afterAll(() => schemas.close())

  test('with zod is described by them, what JSON cannot say left open', async () => {
    const given = await schemas.of(zod, { graph_id: 'z', path: fixture('zod.ts'), export: 'graph' })
    expect(given.state_schema).toMatchObject({
      type: 'object',
      properties: {
        messages: MESSAGES,
        topic: { type: 'string', description: 'What it is about.' },
        count: { type: 'number', default: 1 },
        since: {},
      },
    })
    expect(given.input_schema).toMatchObject({ properties: { messages: MESSAGES, topic: { type: 'string' } } })
    expect((given.input_schema as { required?: string[] }).required ?? []).toEqual([])
    expect(given.input_schema).not.toHaveProperty('properties.count')
    expect(given.context_schema).toMatchObject({ properties: { user_id: { type: 'string' } }, required: ['user_id'] })
    expect(given.config_schema).toEqual(given.context_schema)
  })

  test('as an agent is described by its state, input and context', async () => {
    const given = await schemas.of(agent, { graph_id: 'a', path: fixture('agent.ts'), export: 'agent' })
    expect(given.input_schema).toMatchObject({ properties: { messages: MESSAGES, visits: { type: 'number' } } })
    expect(given.state_schema).toMatchObject({ properties: { messages: MESSAGES, visits: { type: 'number' } } })
    expect(given.context_schema).toMatchObject({ properties: { tenant: { type: 'string' } } })
    expect(await schemas.of(agent.graph, { graph_id: 'a' })).toEqual(given)
  })
})

describe('a graph in JavaScript', () => {
  const schemas = createSchemas({ timeoutMs: 1 })
  afterAll(() => schemas.close())

  test('is described by its channels', async () => {
    const given = await schemas.of(nested, { graph_id: 'n', path: fixture('nested.js'), export: 'graph' })
    const object = { type: 'object', properties: { messages: MESSAGES, depth: {} } }
    expect(await schemas.of(nested.builder, { graph_id: 'n' })).toEqual(given)
    expect(given).toEqual({
      ...{ state_schema: object, input_schema: object, output_schema: object },
      ...{ config_schema: null, context_schema: null },
    })
  })

  test('has schemas for the graphs inside it, by namespace', async () => {
    expect(Object.keys(await schemas.subgraphsOf(nested, undefined, false))).toEqual(['middle'])
    const all = await schemas.subgraphsOf(nested, undefined, true)
    expect(Object.keys(all)).toEqual(['middle', 'middle|inner'])
    expect(all.middle?.state_schema).toEqual({ type: 'object', properties: { depth: {}, tags: { type: 'array' } } })
    expect(all['middle|inner']?.state_schema).toMatchObject({ properties: { depth: { type: 'number' } } })
    expect(await schemas.subgraphsOf(nested, 'middle|inner', false)).toEqual({ 'middle|inner': all['middle|inner'] })
    expect(await schemas.subgraphsOf(nested, 'absent', true)).toEqual({})
  })

  test('something that is no graph has no schemas, and no error', async () => {
    const empty = {
      state_schema: null,
      input_schema: null,
      output_schema: null,
      config_schema: null,
      context_schema: null,
    }
    for (const value of [null, 1, {}, { builder: {} }, () => {}]) {
      expect(await schemas.of(value, { graph_id: 'x' })).toEqual(empty)
    }
  })
})
