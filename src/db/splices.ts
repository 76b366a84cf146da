// How splices stand in rows. In charge of their one form, which is also a part of what an encrypted row is bound to.

import type { StoredSplice } from '../executor/stored.ts'
import { type Sql, sql } from './sql.ts'

/** Splices as a row has them; null without any. */
export const splicesText = (splices: readonly StoredSplice[] | undefined): string | null =>
  splices?.length ? JSON.stringify(splices.map((s) => [s.at, s.checkpoint_ns, s.channel, s.version])) : null

/** The splices of a row. */
export const splicesOf = (text: string | null): StoredSplice[] =>
  text === null
    ? []
    : (JSON.parse(text) as [number, string, string, string][]).map(([at, checkpoint_ns, channel, version]) => ({
        at,
        checkpoint_ns,
        channel,
        version,
      }))

/** The lists that a row's splices name, as rows of namespace, channel and version. */
export const splicedLists = (splices: Sql): Sql =>
  sql`select s ->> 1, s ->> 2, s ->> 3 from json_array_elements(${splices}::json) as s`
