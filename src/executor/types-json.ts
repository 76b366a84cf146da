// JSON schemas from TypeScript types, as the compiler's checker sees them. In charge of what a type looks like as JSON on the
// wire (messages, dates, maps, bytes as wire.ts prints them); methods, symbols and private members are left out. Must end for
// every type, however deep or recursive: what is too much becomes the schema that allows anything.

import ts from 'typescript'
import { MESSAGE_SCHEMA, MESSAGES_SCHEMA } from './schemas-messages.ts'

export type JsonSchema = Record<string, unknown>

const MAX_DEPTH = 16
const MAX_PROPERTIES = 4_000

/** Gives a complete schema (draft-07, with its definitions) of a type; undefined where the type says nothing. */
export function schemaOf(type: ts.Type, checker: ts.TypeChecker): JsonSchema | undefined {
  const converter = new Converter(checker)
  const schema = converter.convert(type)
  if (schema === undefined || Object.keys(schema).length === 0) return undefined
  const definitions = converter.definitions
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    ...schema,
    ...(definitions.size > 0 ? { definitions: Object.fromEntries(definitions) } : {}),
  }
}

/** Types that are printed as something other than their properties, by the name of their symbol. */
const BY_NAME: Record<string, JsonSchema> = {
  Date: { type: 'string', format: 'date-time' },
  URL: { type: 'string', format: 'uri' },
  RegExp: { type: 'string' },
  Error: { type: 'object', properties: { name: { type: 'string' }, message: { type: 'string' } } },
  ...Object.fromEntries(
    ['Uint8Array', 'Buffer', 'ArrayBuffer', 'ArrayBufferLike', 'DataView'].map((name) => [
      name,
      { type: 'string', contentEncoding: 'base64' },
    ]),
  ),
}
const MESSAGE_NAME = /^(Base|AI|Human|System|Tool|Chat|Function|Remove)Message(Chunk|Like)?$/

class Converter {
  readonly definitions = new Map<string, JsonSchema>()
  readonly #checker: ts.TypeChecker
  readonly #open: ts.Type[] = []
  readonly #recursive = new Map<ts.Type, string>()
  #properties = 0
  #depth = 0

  constructor(checker: ts.TypeChecker) {
    this.#checker = checker
  }

  /** Undefined for what is not sent at all: undefined, functions, symbols. */
  convert(type: ts.Type): JsonSchema | undefined {
    const { flags } = type
    if (flags & (ts.TypeFlags.Undefined | ts.TypeFlags.Void | ts.TypeFlags.ESSymbolLike)) return undefined
    if (flags & ts.TypeFlags.Null) return { type: 'null' }
    if (flags & ts.TypeFlags.BooleanLiteral)
      return { type: 'boolean', const: this.#checker.typeToString(type) === 'true' }
    if (flags & ts.TypeFlags.Boolean) return { type: 'boolean' }
    if (type.isStringLiteral() || type.isNumberLiteral()) return { type: typeof type.value, const: type.value }
    if (flags & ts.TypeFlags.StringLike) return { type: 'string' }
    if (flags & ts.TypeFlags.NumberLike && !type.isUnion()) return { type: 'number' }
    if (flags & ts.TypeFlags.BigIntLike) return { type: 'integer' }
    if (type.isUnion()) return this.#union(type.types)
    if (flags & (ts.TypeFlags.Object | ts.TypeFlags.Intersection)) return this.#object(type)
    return {}
  }

  #union(members: readonly ts.Type[]): JsonSchema | undefined {
    if (members.some((member) => this.#isListOfMessages(member))) return MESSAGES_SCHEMA
    if (members.some(isMessage)) return MESSAGE_SCHEMA
    const sent = members.filter((member) => member.getProperty('__overwrite__') === undefined)
    const schemas = sent.map((member) => this.convert(member)).filter((schema) => schema !== undefined)
    if (schemas.some((schema) => Object.keys(schema).length === 0)) return {}
    const [first, ...more] = joinConstants(schemas)
    return more.length === 0 ? first : { anyOf: [first, ...more] }
  }

  #isListOfMessages(type: ts.Type): boolean {
    const item = this.#itemOf(type)
    return item !== undefined && (item.isUnion() ? item.types.some(isMessage) : isMessage(item))
  }

  #itemOf(type: ts.Type): ts.Type | undefined {
    return this.#checker.isArrayType(type) ? this.#checker.getTypeArguments(type as ts.TypeReference)[0] : undefined
  }

  #object(type: ts.Type): JsonSchema | undefined {
    if (isMessage(type)) return MESSAGE_SCHEMA
    if (this.#isListOfMessages(type)) return MESSAGES_SCHEMA
    const known = isDeclaredOutside(type) ? BY_NAME[nameOf(type)] : undefined
    if (known) return known
    if (this.#open.includes(type)) return this.#refer(type)
    if (this.#depth >= MAX_DEPTH || this.#properties > MAX_PROPERTIES) return {}
    this.#depth++
    // Lists have no name of their own to be referred to by.
    const item = this.#itemOf(type)
    if (item === undefined) this.#open.push(type)
    const schema = item === undefined ? this.#shape(type) : { type: 'array', items: this.convert(item) ?? {} }
    if (item === undefined) this.#open.pop()
    this.#depth--
    const name = this.#recursive.get(type)
    if (name === undefined || schema === undefined) return schema
    this.definitions.set(name, schema)
    return { $ref: `#/definitions/${name}` }
  }

  #refer(type: ts.Type): JsonSchema {
    let name = this.#recursive.get(type)
    if (name === undefined) {
      const base = nameOf(type).replace(/\W/g, '') || 'Type'
      const taken = [...this.#recursive.values()]
      for (let i = 1; name === undefined || taken.includes(name); i++) name = i === 1 ? base : `${base}${i}`
      this.#recursive.set(type, name)
    }
    return { $ref: `#/definitions/${name}` }
  }

  #shape(type: ts.Type): JsonSchema | undefined {
    if (this.#checker.isTupleType(type)) return this.#tuple(type as ts.TypeReference)
    const args = this.#checker.getTypeArguments(type as ts.TypeReference)
    const name = isDeclaredOutside(type) ? nameOf(type) : ''
    if (/^(Readonly)?Set$/.test(name) && args[0])
      return { type: 'array', items: this.convert(args[0]) ?? {}, uniqueItems: true }
    if (/^(Readonly)?Map$/.test(name) && args[1])
      return { type: 'object', additionalProperties: this.convert(args[1]) ?? {} }
    if (type.isIntersection()) {
      const basic = type.types.find((part) => !(part.flags & ts.TypeFlags.Object))
      if (basic) return this.convert(basic)
    }
    if (type.getCallSignatures().length > 0) return undefined
    return this.#record(type)
  }

  #tuple(type: ts.TypeReference): JsonSchema {
    const items = this.#checker.getTypeArguments(type).map((part) => this.convert(part) ?? {})
    const { minLength, hasRestElement } = type.target as ts.TupleType
    if (hasRestElement) return { type: 'array', minItems: minLength }
    return { type: 'array', items, minItems: minLength, maxItems: items.length }
  }

  #record(type: ts.Type): JsonSchema {
    const properties: Record<string, JsonSchema> = {}
    const required: string[] = []
    for (const property of this.#checker.getPropertiesOfType(type)) {
      if (property.name.startsWith('__@') || isHidden(property)) continue
      this.#properties++
      const schema = this.convert(this.#checker.getTypeOfSymbol(property))
      if (schema === undefined) continue
      const description = ts.displayPartsToString(property.getDocumentationComment(this.#checker))
      Object.defineProperty(properties, property.name, {
        value: description && !schema.$ref ? { ...schema, description } : schema,
        enumerable: true,
      })
      if (!this.#mayBeAbsent(property)) required.push(property.name)
    }
    const index = this.#checker.getIndexTypeOfType(type, ts.IndexKind.String)
    const others = index && this.convert(index)
    return {
      type: 'object',
      properties,
      ...(required.length > 0 ? { required } : {}),
      ...(others && Object.keys(others).length > 0 ? { additionalProperties: others } : {}),
    }
  }

  #mayBeAbsent(property: ts.Symbol): boolean {
    if (property.flags & ts.SymbolFlags.Optional) return true
    const type = this.#checker.getTypeOfSymbol(property)
    const open = ts.TypeFlags.Undefined | ts.TypeFlags.Any | ts.TypeFlags.Unknown
    return (type.isUnion() ? type.types : [type]).some(({ flags }) => (flags & open) !== 0)
  }
}

const nameOf = (type: ts.Type): string => {
  const name = type.aliasSymbol?.name ?? type.symbol?.name ?? ''
  return name.startsWith('__') ? '' : name
}

const isMessage = (type: ts.Type): boolean => MESSAGE_NAME.test(type.symbol?.name ?? '') && isDeclaredOutside(type)

// In a package or the standard library, not in the graph's own files (which may have a type of the same name).
function isDeclaredOutside(type: ts.Type): boolean {
  const file = type.symbol?.declarations?.[0]?.getSourceFile()
  return file !== undefined && (file.hasNoDefaultLib || /[\\/]node_modules[\\/]|__heddle_types__/.test(file.fileName))
}

const isHidden = (property: ts.Symbol): boolean =>
  property.declarations?.some((declaration) => {
    const hidden = ts.ModifierFlags.Private | ts.ModifierFlags.Protected
    return (
      (ts.getCombinedModifierFlags(declaration) & hidden) !== 0 ||
      (ts.isPropertyDeclaration(declaration) && ts.isPrivateIdentifier(declaration.name))
    )
  }) ?? false

/** Joins constants into enums, both booleans into boolean, and drops what is said twice. */
function joinConstants(schemas: JsonSchema[]): JsonSchema[] {
  const others = new Map<string, JsonSchema>()
  const constants = new Map<string, unknown[]>()
  for (const schema of schemas) {
    if (!('const' in schema)) others.set(JSON.stringify(schema), schema)
    else constants.set(schema.type as string, [...(constants.get(schema.type as string) ?? []), schema.const])
  }
  const joined = [...constants].map(([type, values]) => {
    if (type === 'boolean' && values.length === 2) return { type }
    return values.length === 1 ? { type, const: values[0] } : { type, enum: values }
  })
  return [...joined, ...others.values()]
}
