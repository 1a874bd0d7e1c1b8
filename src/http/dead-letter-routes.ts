/** Dead letters over HTTP: find them, see what they have in common, look into one, and decide what becomes of them. */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { roleCovers } from '../domain/access/api-key.ts';
import { FerryError } from '../kernel/errors.ts';
import {
  auditDisclosure,
  discardLetter,
  editAndRetryLetter,
  type PayloadTools,
  retryLetter,
  retryLetters,
} from '../ops/dead-letter-actions.ts';
import { readLetterFor } from '../ops/dead-letter-view.ts';
import { findDeadLetterSummary, listCauses, listDeadLetters } from '../ops/dead-letters.ts';
import type { Queryable } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import { principalOf } from './authentication.ts';
import { answers, IdempotencyHeaders } from './contract.ts';
import { readPage } from './cursor.ts';
import * as shapes from './dead-letter-contract.ts';
import { answerOnce } from './idempotency.ts';
import { actorOf, type RouteDeps } from './route-deps.ts';

const READ_PROBLEMS = [401, 403, 404, 422, 503] as const;
const WRITE_PROBLEMS = [400, 401, 403, 404, 409, 413, 422, 503] as const;

/** What takes nothing but a reason. */
const DECISIONS = {
  retry: {
    decide: retryLetter,
    summary: 'Have its owner take a dead letter up once more; a parked key is released with it',
  },
  discard: { decide: discardLetter, summary: 'Decide that a dead letter will never be published or applied' },
};

export function deadLetterRoutes(deps: RouteDeps, tools: PayloadTools): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.get(
      '/v1/ops/dead-letters',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'listDeadLetters',
          summary: 'List dead letters, newest first',
          querystring: shapes.DeadLetterQuery,
          response: answers({ 200: shapes.DeadLetterPageSchema }, [401, 403, 422, 503]),
        },
      },
      async ({ query }) => {
        const filter = shapes.filterOf(query);
        const { rows, nextCursor } = await readPage(query, (slice) =>
          listDeadLetters(deps.pool, { ...filter, ...slice }),
        );
        return { deadLetters: [...rows], nextCursor };
      },
    );

    app.get(
      '/v1/ops/dead-letters/causes',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'listDeadLetterCauses',
          summary: 'Count dead letters by what went wrong, the most frequent first',
          querystring: shapes.DeadLetterCausesQuery,
          response: answers({ 200: shapes.DeadLetterCausesSchema }, [401, 403, 422, 503]),
        },
      },
      async ({ query }) => ({ causes: await listCauses(deps.pool, shapes.filterOf(query)) }),
    );

    app.get(
      '/v1/ops/dead-letters/:id',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'getDeadLetter',
          summary: 'Read a dead letter; personal data is for admins only, and audited',
          params: shapes.DeadLetterParams,
          response: answers({ 200: shapes.DeadLetterSchema }, READ_PROBLEMS),
        },
      },
      async (request) => {
        const whole = roleCovers(principalOf(request).role, 'admin');
        const { contents, disclosed } = await readLetterFor(deps.pool, tools.views, request.params.id, whole);
        if (disclosed) await disclose(deps, request, request.params.id, 'shown with personal data');
        const { value: _, offset, ...letter } = contents;
        return { ...letter, offset: String(offset) };
      },
    );

    app.get(
      '/v1/ops/dead-letters/:id/raw',
      {
        config: { role: 'admin' },
        schema: {
          operationId: 'getRawDeadLetter',
          summary: 'Read a dead letter’s bytes as they came, which is audited',
          params: shapes.DeadLetterParams,
          querystring: shapes.RawQuery,
          response: answers({ 200: shapes.RawDeadLetterSchema }, READ_PROBLEMS),
        },
      },
      async (request) => {
        const { id } = request.params;
        await disclose(deps, request, id, request.query.reason);
        const { contents } = await readLetterFor(deps.pool, tools.views, id, true);
        const { keyBytes, value, headers, payload, decoded } = contents;
        const base64 = (bytes: Buffer | null) => bytes?.toString('base64') ?? null;
        return { id, key: base64(keyBytes), value: base64(value), headers: { ...headers }, payload, decoded };
      },
    );

    for (const [action, { decide, summary }] of Object.entries(DECISIONS)) {
      app.post(
        `/v1/ops/dead-letters/:id/${action}`,
        {
          config: { role: 'operator' },
          schema: {
            operationId: `${action}DeadLetter`,
            summary,
            headers: IdempotencyHeaders,
            params: shapes.DeadLetterParams,
            body: shapes.DecisionBody,
            response: answers({ 200: shapes.DeadLetterSummarySchema }, WRITE_PROBLEMS),
          },
        },
        (request, reply) =>
          answerOnce(deps.idempotency, request, reply, async (tx) => {
            const { id } = request.params;
            await decide(tx, actorOf(request), { id, reason: request.body.reason });
            return summaryOf(tx, id);
          }),
      );
    }

    app.post(
      '/v1/ops/dead-letters/:id/edit-and-retry',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'editAndRetryDeadLetter',
          summary: 'Retry a dead letter with another payload, checked against its schema; the original is kept',
          headers: IdempotencyHeaders,
          params: shapes.DeadLetterParams,
          body: shapes.EditBody,
          response: answers({ 200: shapes.DeadLetterSummarySchema }, WRITE_PROBLEMS),
        },
      },
      (request, reply) =>
        answerOnce(deps.idempotency, request, reply, async (tx) => {
          const { id } = request.params;
          await editAndRetryLetter(tx, actorOf(request), { id, ...request.body }, tools);
          return summaryOf(tx, id);
        }),
    );

    app.post(
      '/v1/ops/dead-letters/retry',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'retryDeadLetters',
          summary: 'Retry open dead letters by what they have in common, the oldest first',
          headers: IdempotencyHeaders,
          body: shapes.RetryManyBody,
          response: answers({ 200: shapes.RetriedSchema }, WRITE_PROBLEMS),
        },
      },
      (request, reply) =>
        answerOnce(deps.idempotency, request, reply, async (tx) => {
          const { reason, limit = 100, ...narrowing } = request.body;
          if (Object.keys(narrowing).length === 0) {
            throw new FerryError('INVALID_REQUEST', 'the body names no type, code, topic, key, group or time');
          }
          const { state: _, ...filter } = shapes.filterOf(narrowing);
          return { status: 200, body: await retryLetters(tx, actorOf(request), { filter, limit, reason }) };
        }),
    );
    done();
  };
}

async function summaryOf(tx: Queryable, id: string) {
  return { status: 200, body: await findDeadLetterSummary(tx, id) };
}

function disclose(deps: RouteDeps, request: FastifyRequest, id: string, reason: string): Promise<void> {
  return transaction(deps.pool, (tx) => auditDisclosure(tx, actorOf(request), { id, reason }));
}
