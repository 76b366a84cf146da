// What starts a server with the custom app of this folder.

import { fileURLToPath } from 'node:url'

/** Options of `createHeddle`; the app's name for people is `apps/custom.ts:app`. */
export const customApp = {
  app: `${fileURLToPath(new URL('custom.ts', import.meta.url))}:app`,
  projectDir: fileURLToPath(new URL('..', import.meta.url)),
}
