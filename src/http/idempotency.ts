/**
 * Idempotency-Key (IETF draft-ietf-httpapi-idempotency-key-header-07): a request that is repeated with its key gets the first answer
 * again and does nothing. The answer is stored in the transaction of the work, so that there is never one without the other; a refusal, which
 * leaves no work behind, in one of its own. Keys are kept as HMAC-SHA-256 over principal, route and key.
 */
import { createHmac, type KeyObject } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ErrorCode, FerryError } from '../kernel/errors.ts';
import { canonicalJson } from '../kernel/exact-json.ts';
import type { Pool, Queryable } from '../postgres/connection.ts';
import { ferryErrorOf } from '../postgres/sqlstate.ts';
import { transaction } from '../postgres/transaction.ts';
import { principalOf } from './authentication.ts';
import { findAnswer, type StoredAnswer, storeAnswer, tryLockKey } from './idempotency-store.ts';
import { tellPosition } from './position.ts';
import { PROBLEM_TYPE, problemOf } from './problem.ts';

export interface Answer {
  readonly status: number;
  readonly body: unknown;
  /** Path of what was made. */
  readonly location?: string;
}

export interface Idempotency {
  readonly pool: Pool;
  /** HMAC key; made into a KeyObject once, which costs more than the HMAC itself. */
  readonly secret: KeyObject;
  readonly ttlHours: number;
  /** Whether answers tell their position: it is one of the main database's WAL, or means nothing to who brings it back. */
  readonly tellsPosition: boolean;
}

/** Refusals that the same request would meet again: their answers are stored. Others may end differently later. */
const STORED_REFUSALS = new Set<ErrorCode>(['BUSINESS_RULE', 'CONFLICT']);

/** A structured-field string, or the bare key that most clients send; visible ASCII. */
const KEY_HEADER = /^"?([!#-~]{1,255}?)"?$/;

/**
 * Runs `work` in a transaction, once for this request's key, and sends its answer. Throws IDEMPOTENCY_KEY_REUSED if the key came with
 * another body, IDEMPOTENCY_KEY_IN_USE if its first request is still running, and what `work` throws.
 */
export async function answerOnce(
  idempotency: Idempotency,
  request: FastifyRequest,
  reply: FastifyReply,
  work: (tx: Queryable) => Promise<Answer>,
): Promise<void> {
  const { secret, ttlHours } = idempotency;
  const scope = [principalOf(request).id, request.method, request.routeOptions.url, idempotencyKeyOf(request)];
  const keyHash = hmac(secret, scope.join('\n'));
  const fingerprint = hmac(secret, `${request.url}\n${canonicalJson(request.body ?? null)}`);

  const once = (given: (tx: Queryable) => Promise<Omit<StoredAnswer, 'fingerprint'>>) =>
    transaction(idempotency.pool, async (tx) => {
      if (!(await tryLockKey(tx, keyHash))) {
        throw new FerryError('IDEMPOTENCY_KEY_IN_USE', 'a request with this Idempotency-Key is still running');
      }
      // A statement of its own, and so a snapshot of its own, after the lock: it sees the answer of whoever held the lock before.
      const stored = await findAnswer(tx, keyHash);
      if (stored === null) {
        const fresh = { ...(await given(tx)), fingerprint };
        await storeAnswer(tx, keyHash, fresh, ttlHours);
        return { answer: fresh, replayed: false };
      }
      if (!stored.fingerprint.equals(fingerprint)) {
        throw new FerryError('IDEMPOTENCY_KEY_REUSED', 'this Idempotency-Key was used with another request');
      }
      return { answer: stored, replayed: true };
    });

  const { answer, replayed } = await once(async (tx) => {
    const { status, body, location } = await work(tx);
    return { status, body: JSON.stringify(body), location: location ?? null };
  }).catch((error) => {
    const refusal = ferryErrorOf(error);
    if (refusal === undefined || !STORED_REFUSALS.has(refusal.code)) throw error;
    // What the work wrote was rolled back with its transaction. If another request with the key came between, its answer stands.
    const body = JSON.stringify(problemOf(refusal, request.id));
    return once(async () => ({ status: refusal.status, body, location: null }));
  });

  if (replayed) reply.header('idempotency-replayed', 'true');
  if (answer.status < 400 && idempotency.tellsPosition) await tellPosition(reply, idempotency.pool);
  if (answer.location !== null) reply.header('location', answer.location);
  const type = answer.status < 400 ? 'application/json; charset=utf-8' : PROBLEM_TYPE;
  reply.code(answer.status).header('content-type', type).send(answer.body);
}

/** The request's key. Throws IDEMPOTENCY_KEY_MISSING. */
export function idempotencyKeyOf(request: FastifyRequest): string {
  const header = request.headers['idempotency-key'];
  const key = typeof header === 'string' ? KEY_HEADER.exec(header)?.[1] : undefined;
  if (key === undefined) {
    throw new FerryError(
      'IDEMPOTENCY_KEY_MISSING',
      'the request has no Idempotency-Key of 1 to 255 visible ASCII characters',
    );
  }
  return key;
}

function hmac(secret: KeyObject, text: string): Buffer {
  return createHmac('sha256', secret).update(text).digest();
}
