/** The statements behind Idempotency-Key; a row is in force from its request to its expiry, and goes with its day. */
import { randomBytes } from 'node:crypto';
import type { Queryable } from '../postgres/connection.ts';

export interface StoredAnswer {
  readonly fingerprint: Buffer;
  readonly status: number;
  readonly body: string;
  readonly location: string | null;
}

/** Takes the key for this transaction without waiting; false: another request with it is running. */
export async function tryLockKey(tx: Queryable, keyHash: Buffer): Promise<boolean> {
  const { rows } = await tx.query<{ locked: boolean }>('select pg_try_advisory_xact_lock($1) as locked', [
    keyHash.readBigInt64BE(0),
  ]);
  return rows[0]?.locked === true;
}

export async function findAnswer(tx: Queryable, keyHash: Buffer): Promise<StoredAnswer | null> {
  const { rows } = await tx.query<StoredAnswer>(
    `select fingerprint, status, body, location from ferry.idempotency_key
     where key_hash = $1 and expires_at > clock_timestamp()`,
    [keyHash],
  );
  return rows[0] ?? null;
}

/** For `ttlHours`; whoever calls holds the key. */
export async function storeAnswer(
  tx: Queryable,
  keyHash: Buffer,
  answer: StoredAnswer,
  ttlHours: number,
): Promise<void> {
  await tx.query(
    `insert into ferry.idempotency_key (key_hash, fingerprint, status, body, location, expires_at)
     values ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(hours => $6))`,
    [keyHash, answer.fingerprint, answer.status, answer.body, answer.location, ttlHours],
  );
}

const SECRET_NAME = 'idempotency-hmac';

/** The HMAC key that all instances share when none is configured: made by the first that asks. */
export async function sharedSecret(db: Queryable): Promise<Buffer> {
  await db.query('insert into ferry.secret (name, value) values ($1, $2) on conflict (name) do nothing', [
    SECRET_NAME,
    randomBytes(32),
  ]);
  const { rows } = await db.query<{ value: Buffer }>('select value from ferry.secret where name = $1', [SECRET_NAME]);
  if (rows[0] === undefined) throw new Error('the idempotency secret vanished');
  return rows[0].value;
}
