// The metadata of checkpoints as it is stored: without the id of the run, which has a column of its own. In charge of both ways;
// who reads metadata must see it as it was given.

import { sql } from './sql.ts'

/** What is stored of the metadata of a run's checkpoint. Null says that the metadata does not name the run. */
export function withoutRun(metadata: Record<string, unknown>, runId: string | null): Record<string, unknown> {
  if (runId === null) return metadata
  const { run_id = null, ...rest } = metadata
  return run_id === runId ? rest : { ...rest, run_id }
}

/** The metadata of the row `c` of `checkpoints`, as it was given. */
export const wholeMetadata = sql`case
  when c.run_id is null or c.metadata -> 'run_id' <> 'null' then c.metadata
  when c.metadata ? 'run_id' then c.metadata - 'run_id'
  else c.metadata || jsonb_build_object('run_id', c.run_id) end`
