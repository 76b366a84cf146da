// The hash that says whether a file is still what a schema was read from. Shared by the thread that asks and the worker.

import { createHash } from 'node:crypto'

/** A hash of a file's text, fit for a file name. */
export const hashOf = (text: string): string => createHash('sha256').update(text).digest('base64url')
