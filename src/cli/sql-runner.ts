/** Single statements on databases given by URL: what the embedded stack needs to probe Postgres and to make databases. */
import { createPool } from '../postgres/connection.ts';

/** Runs one statement on a connection of its own. */
export async function runSql(databaseUrl: string, statement: string): Promise<Array<Record<string, unknown>>> {
  const pool = createPool({ DATABASE_URL: databaseUrl, POSTGRES_TLS: 'auto' }, 'ferry-cli', { max: 1 });
  try {
    const { rows } = await pool.query<Record<string, unknown>>(statement);
    return rows;
  } finally {
    await pool.end();
  }
}
