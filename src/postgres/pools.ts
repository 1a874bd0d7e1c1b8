/** The pools of a process: one for each database that it works with, made when it is first asked for. */
import type { DatabaseName, Databases } from '../config/databases.ts';
import { createPool, type Pool, type PoolSettings } from './connection.ts';

export interface PoolsOptions {
  readonly databases: Databases;
  /** What pg_stat_activity shows. */
  readonly applicationName: string;
  readonly settings: (database: DatabaseName) => Partial<PoolSettings>;
}

export class Pools {
  readonly #options: PoolsOptions;
  readonly #pools = new Map<DatabaseName, Pool>();

  constructor(options: PoolsOptions) {
    this.#options = options;
  }

  /** Throws CONFIG_INVALID, naming the variable, if the database has no usable address. */
  of(name: DatabaseName): Pool {
    const known = this.#pools.get(name);
    if (known !== undefined) return known;
    const { databases, applicationName, settings } = this.#options;
    const config = databases.get(name);
    if (config === undefined) throw new Error(`no database ${name} is configured`);
    const pool = createPool(config, applicationName, settings(name));
    this.#pools.set(name, pool);
    return pool;
  }

  /** Every database with the name of its relay, the main one first. */
  withRelays(): ReadonlyMap<DatabaseName, { readonly pool: Pool; readonly relay: string }> {
    const { databases } = this.#options;
    return new Map([...databases].map(([name, { RELAY_NAME: relay }]) => [name, { pool: this.of(name), relay }]));
  }

  async end(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.end()));
  }
}
