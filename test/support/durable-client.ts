/** A connection to Postgres that outlives the server: what was lost on the way is known to be lost, and there is a new connection. */
import pg from 'pg';
import { backoffMs, sleep } from '../../src/kernel/deadline.ts';

const RECONNECT_ATTEMPTS = 200;

export class DurableClient {
  readonly #databaseUrl: string;
  readonly #onLoss: () => void;
  #client: pg.Client | undefined;
  #backendPid = 0;

  constructor(databaseUrl: string, onLoss: () => void = () => {}) {
    this.#databaseUrl = databaseUrl;
    this.#onLoss = onLoss;
  }

  /** True when the connection was lost on the way; there is a new one then, and the old one's work is done or undone. */
  async survive(work: (client: pg.Client) => Promise<void>): Promise<boolean> {
    const client = this.#client;
    if (client === undefined) throw new Error('the client is not connected');
    try {
      await work(client);
      return false;
    } catch (error) {
      if (!isConnectionLoss(error)) throw error;
      this.#onLoss();
      await this.#reconnect();
      return true;
    }
  }

  /** Waits for a server that is not there (yet). */
  async connect(): Promise<void> {
    await untilConnected(() => this.#connectOnce());
  }

  async end(): Promise<void> {
    await this.#client?.end().catch(() => {});
  }

  async #connectOnce(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#databaseUrl,
      connectionTimeoutMillis: 5_000,
      keepAlive: true,
    });
    client.on('error', () => {}); // whoever uses it next is told
    await client.connect();
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    this.#client = client;
    this.#backendPid = rows[0]?.pid ?? 0;
  }

  /** The old backend may still be at its commit (a cut wire): it must be gone before anybody asks what it did. */
  async #reconnect(): Promise<void> {
    const oldPid = this.#backendPid;
    this.#client?.end().catch(() => {});
    await untilConnected(async () => {
      await this.#connectOnce();
      while (await this.#terminate(oldPid)) await sleep(20);
    });
  }

  /** False when there is no such backend any more. */
  async #terminate(pid: number): Promise<boolean> {
    const result = await this.#client?.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and pid <> pg_backend_pid()',
      [pid],
    );
    return (result?.rows.length ?? 0) > 0;
  }
}

async function untilConnected(connect: () => Promise<void>): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await connect();
    } catch (error) {
      if (!isConnectionLoss(error) || attempt === RECONNECT_ATTEMPTS) throw error;
      await sleep(backoffMs(attempt, 20, 300));
    }
  }
}

/** Class 57 is the server going away, 08 the connection; pg's own losses have no SQLSTATE and are told by their text. */
function isConnectionLoss(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? String(error.code) : '';
  return (
    /^(57P0[1-5]|08...|ECONN\w+|EPIPE|ETIMEDOUT)$/.test(code) ||
    /Connection terminated|not queryable|timeout expired|closed the connection|premature close/i.test(error.message)
  );
}
