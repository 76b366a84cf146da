// Emptying parts of the database, for development. Must leave what remains consistent: a run that is under way on an
// emptied thread loses its hold, and so writes nothing more.

import type { Db } from './db.ts'
import { sql } from './sql.ts'

/** Empties what is asked for, in one transaction. The assistants that graphs have from the start stay. */
export const truncate = (
  db: Db,
  parts: { runs: boolean; threads: boolean; assistants: boolean; checkpointer: boolean; store: boolean },
): Promise<void> =>
  db.tx(async (tx) => {
    if (parts.threads) await tx.rows(sql`delete from threads`)
    if (parts.runs) {
      await tx.rows(sql`update threads set held_by = null, epoch = epoch + 1 where held_by is not null`)
      await tx.rows(sql`delete from events`)
      await tx.rows(sql`delete from runs`)
    }
    if (parts.runs || parts.threads) await tx.rows(sql`delete from idempotency_keys`)
    if (parts.runs || parts.threads) await tx.rows(sql`delete from webhook_deliveries`)
    if (parts.checkpointer) {
      await tx.rows(sql`delete from checkpoint_writes`)
      await tx.rows(sql`delete from checkpoint_values`)
      await tx.rows(sql`delete from checkpoints`)
      await tx.rows(sql`update threads set "values" = null, interrupts = '{}', error = null, state_updated_at = null,
        settled_status = 'idle'`)
    }
    if (parts.assistants) {
      await tx.rows(sql`delete from assistants where metadata ->> 'created_by' is distinct from 'system'`)
    }
    if (parts.store) await tx.rows(sql`delete from store_items`)
  })
