// Which browser pages may call the server, and what they may see of its answers.

import type { Cors } from '../config.ts'

const METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'

/** CORS headers for answers to an origin, and for its preflights. */
export interface CorsHeaders {
  answer(origin: string | null): Record<string, string>
  /** Undefined where the origin may not call at all. */
  preflight(origin: string | null, asked: string | null): Record<string, string>
}

/** Makes the headers from the configuration. Credentials are never offered to every origin. */
export function createCors(cors: Cors): CorsHeaders {
  const exposed = [...new Set([...cors.exposeHeaders.map((name) => name.toLowerCase()), 'x-request-id'])].join(', ')
  const open = { 'access-control-allow-origin': '*', 'access-control-expose-headers': exposed }
  const answer = (origin: string | null): Record<string, string> => {
    if (cors.origins === '*') return open
    if (origin === null || !cors.origins.includes(origin)) return { vary: 'Origin' }
    return {
      'access-control-allow-origin': origin,
      'access-control-expose-headers': exposed,
      vary: 'Origin',
      ...(cors.credentials && { 'access-control-allow-credentials': 'true' }),
    }
  }
  return {
    answer,
    preflight(origin, asked) {
      const headers = cors.headers?.join(', ') ?? asked ?? ''
      return {
        ...answer(origin),
        'access-control-allow-methods': cors.methods?.join(', ') ?? METHODS,
        ...(headers !== '' && { 'access-control-allow-headers': headers }),
        'access-control-max-age': String(cors.maxAgeSeconds ?? 600),
      }
    },
  }
}
