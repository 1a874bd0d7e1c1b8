/**
 * One connection whose statements run one after the other, whoever sends them: several timers of the relay share its connection, and pg
 * will refuse overlapping queries. Its death is told at once, which a pool would hide.
 */
import pg from 'pg';
import { type ConnectionSettings, clientConfig, endClient, type Queryable } from './connection.ts';

export class SerialClient implements Queryable {
  readonly #client: pg.Client;
  #tail: Promise<unknown> = Promise.resolve();

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  /** Connects; `onDeath` is told when the connection breaks afterwards. */
  static async connect(
    settings: ConnectionSettings,
    applicationName: string,
    onDeath: (error: Error) => void,
  ): Promise<SerialClient> {
    const client = new pg.Client(clientConfig(settings, applicationName));
    client.on('error', onDeath);
    try {
      await client.connect();
    } catch (error) {
      await endClient(client).catch(() => {});
      throw error;
    }
    return new SerialClient(client);
  }

  query<R extends pg.QueryResultRow>(
    text: string,
    values?: unknown[],
  ): Promise<{ rows: R[]; rowCount: number | null }> {
    const result = this.#tail.then(() => this.#client.query<R>(text, values));
    this.#tail = result.catch(() => {});
    return result;
  }

  /**
   * Calls `onNotify` for each NOTIFY on the channel for as long as the connection lives. What it carries is left out: any role may send one.
   */
  async listen(channel: string, onNotify: () => void): Promise<void> {
    this.#client.on('notification', (notification) => {
      if (notification.channel === channel) onNotify();
    });
    await this.query(`listen ${pg.escapeIdentifier(channel)}`);
  }

  /** Safe to call twice. */
  end(): Promise<void> {
    return endClient(this.#client);
  }
}
