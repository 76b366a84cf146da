// Which stacks can hold vectors: the embedded database always, Postgres where its server has pgvector. Says so where not.

import pg from 'pg'
import { needed } from './databases.ts'
import type { StackName } from './stacks.ts'

/** The stacks that a suite about vectors can run on; what is left out is printed with the reason. */
export async function vectorStacks(): Promise<readonly StackName[]> {
  if (await serverHasVectors()) return ['embedded', 'postgres+redis', 'postgres']
  console.warn(
    'Skipped on Postgres: the server has no extension "vector" (pgvector). On Debian: postgresql-NN-pgvector.',
  )
  return ['embedded']
}

/** Whether the tests' Postgres has pgvector. */
export async function serverHasVectors(): Promise<boolean> {
  const client = new pg.Client({ connectionString: needed('TEST_DATABASE_URI') })
  await client.connect()
  try {
    return (await client.query(`select 1 from pg_available_extensions where name = 'vector'`)).rows.length > 0
  } finally {
    await client.end()
  }
}
