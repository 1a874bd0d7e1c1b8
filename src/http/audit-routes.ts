/** The audit over HTTP: who did what, when and why. */
import { type FastifyPluginCallbackTypebox, Type } from '@fastify/type-provider-typebox';
import { listAudit } from '../ops/audit-log.ts';
import { answers, closed, orNull, Timestamp, text, Uuid, When } from './contract.ts';
import { NextCursor, PageQuery, readNumberedPage } from './cursor.ts';
import type { RouteDeps } from './route-deps.ts';

const AuditRowSchema = Type.Object({
  id: Type.Integer({ minimum: 1 }),
  at: Timestamp,
  principal: Type.String({ description: 'Id of an API key, cli:<user>, or saga:<id>.' }),
  action: Type.String(),
  subject: Type.String(),
  eventId: orNull(Uuid, 'The event that tells of it.'),
  requestId: orNull(Type.String()),
  reason: orNull(Type.String(), 'In an operator’s words.'),
  position: orNull(Type.Integer({ minimum: 1 }), 'In the chain; null for some seconds after an application’s write.'),
});
const AuditQuery = Type.Object(
  {
    principal: Type.Optional(text(200, 'Who.')),
    action: Type.Optional(
      text(200, 'What was done; a beginning that ends in a full stop, such as `saga.`, finds all of it.'),
    ),
    subject: Type.Optional(text(1_000, 'To what.')),
    eventId: Type.Optional(Uuid),
    after: Type.Optional(When),
    before: Type.Optional(When),
    ...PageQuery,
  },
  closed,
);

export function auditRoutes(deps: RouteDeps): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.get(
      '/v1/ops/audit',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'listAudit',
          summary: 'Who did what and why, newest first',
          querystring: AuditQuery,
          response: answers(
            { 200: Type.Object({ rows: Type.Array(AuditRowSchema), nextCursor: NextCursor }) },
            [401, 403, 422, 503],
          ),
        },
      },
      async ({ query }) => {
        const { principal = null, action = null, subject = null, eventId = null, after = null, before = null } = query;
        const filter = { principal, action, subject, eventId, after, before };
        const page = await readNumberedPage(query, (slice) => listAudit(deps.pool, { ...filter, ...slice }));
        const rows = page.rows.map(({ id, position, ...row }) => ({
          ...row,
          id: Number(id),
          position: position === null ? null : Number(position),
        }));
        return { rows, nextCursor: page.nextCursor };
      },
    );
    done();
  };
}
