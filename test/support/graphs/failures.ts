// What a node can do wrong, by name. In charge of the values that servers stumble over.

/** What Postgres takes neither as text nor as JSON, and the mark that it is escaped with. */
export const ODD_TEXT = 'nul \0, alone \ud800, mark \uE000'

/** Throws what the name says, or gives the update that the name says. */
export function failures(name: string): { odd: unknown } {
  switch (name) {
    case 'error':
      throw new TypeError('the node broke')
    case 'null':
      throw null
    case 'undefined':
      throw undefined
    case 'string':
      throw 'just words'
    case 'object':
      throw { message: 'an object', code: 7 }
    case 'getter':
      throw Object.defineProperty({}, 'message', {
        get() {
          throw new Error('from the getter')
        },
      })
    case 'huge':
      throw new Error('x'.repeat(10 * 1024 * 1024))
    case 'cyclic': {
      const error = new Error('round and round')
      error.cause = error
      throw error
    }
    case 'function':
      return { odd: { deep: [() => 1] } }
    case 'symbol':
      return { odd: Symbol('s') }
    case 'promise':
      return { odd: { later: Promise.resolve(1) } }
    case 'text':
      return { odd: ODD_TEXT }
    default:
      return { odd: name }
  }
}
