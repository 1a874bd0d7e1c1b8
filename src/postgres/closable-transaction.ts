/**
 * A transaction as it is handed to code that is not ours: closed when that code is done, so that what goes on in the background (after a
 * time-out, or a forgotten await) cannot write into somebody else's transaction; and it remembers which errors came from Postgres through it.
 */
import type pg from 'pg';
import type { Queryable } from './connection.ts';
import { sqlStateOf } from './sqlstate.ts';

const IN_FAILED_TRANSACTION = '25P02';

export class ClosableTransaction implements Queryable {
  readonly #tx: Queryable;
  readonly #errors = new WeakSet<object>();
  #closed = false;
  /** The first statement that failed: unless that was undone by a savepoint, Postgres refuses all that follows. */
  firstFailure: Error | null = null;

  constructor(tx: Queryable) {
    this.#tx = tx;
  }

  async query<R extends pg.QueryResultRow>(text: string, values?: unknown[]) {
    if (this.#closed) throw new Error('this transaction is over: its work had returned, failed, or taken too long');
    try {
      return await this.#tx.query<R>(text, values);
    } catch (error) {
      // "current transaction is aborted" says nothing that the statement before has not said
      if (this.firstFailure !== null && sqlStateOf(error) === IN_FAILED_TRANSACTION) throw this.firstFailure;
      if (error instanceof Error) {
        this.#errors.add(error);
        this.firstFailure ??= error;
      }
      throw error;
    }
  }

  close(): void {
    this.#closed = true;
  }

  /** Whether the error, or one of its causes, came out of a statement of this transaction. */
  threw(thrown: unknown): boolean {
    for (let error = thrown, depth = 0; error instanceof Error && depth < 5; error = error.cause, depth++) {
      if (this.#errors.has(error)) return true;
    }
    return false;
  }
}
