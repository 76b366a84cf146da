// The sql`` template: a query is text pieces and bound values, and nests. In charge of keeping values out of SQL text;
// there is no way to put a string into the text other than a template written in this repository.

/** Text pieces and the values between them (`strings.length === values.length + 1`). */
export class Sql {
  readonly strings: readonly string[]
  readonly values: readonly unknown[]
  /** Planned for its values each time, rather than once for all. */
  readonly adHoc: boolean
  #text: string | undefined
  constructor(strings: readonly string[], values: readonly unknown[], adHoc = false) {
    this.strings = strings
    this.values = values
    this.adHoc = adHoc
  }
  /** The statement with `$1…$n` placeholders. */
  get text(): string {
    this.#text ??= this.strings.reduce((text, piece, i) => `${text}$${i}${piece}`)
    return this.#text
  }
}

/** Builds a query. A nested `Sql` is spliced in; everything else is bound, arrays as Postgres arrays. */
export function sql(strings: TemplateStringsArray, ...args: readonly unknown[]): Sql {
  const text = [strings[0] as string]
  const values: unknown[] = []
  args.forEach((arg, i) => {
    const after = strings[i + 1] as string
    if (!(arg instanceof Sql)) {
      values.push(arg)
      text.push(after)
      return
    }
    text[text.length - 1] = `${text[text.length - 1]}${arg.strings[0]}`
    arg.values.forEach((value, k) => {
      values.push(value)
      text.push(arg.strings[k + 1] as string)
    })
    text[text.length - 1] = `${text[text.length - 1]}${after}`
  })
  return new Sql(text, values)
}

/** A statement whose best plan depends on what is asked for, such as a filter that fits one row or all of them. */
export const adHoc = (query: Sql): Sql => new Sql(query.strings, query.values, true)

/** Joins queries with a separator query, `sql\`, \`` by default. */
export function join(parts: readonly Sql[], separator: Sql = sql`, `): Sql {
  return parts.reduce((all, part, i) => (i === 0 ? part : sql`${all}${separator}${part}`), sql``)
}

/** A condition that holds when all of them hold; `true` when there are none. */
export const and = (conditions: readonly (Sql | undefined)[]): Sql => {
  const present = conditions.filter((condition) => condition !== undefined)
  return present.length ? join(present, sql` and `) : sql`true`
}

/** What a caller who may see everything may see; auth replaces it by conditions on the row's metadata. */
export const all: Sql = sql`true`
