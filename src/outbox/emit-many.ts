/** Many events in one statement: for those who write a batch of them in one transaction, each with a trace of its own. */
import type { EventId } from '../kernel/event-id.ts';
import { stringifyExactJson } from '../kernel/exact-json.ts';
import type { EmitTransaction } from './emit.ts';

/** An event whose payload is plain JSON. Its aggregate's version is not counted. */
export interface BatchEvent {
  readonly id: EventId;
  readonly aggregateType: string;
  readonly aggregateId: string;
  readonly type: string;
  readonly payload: unknown;
  readonly headers: Readonly<Record<string, string>>;
  readonly traceparent: string | null;
}

const INSERT_EVENTS = `
insert into ferry.outbox (id, aggregatetype, aggregateid, type, payload, headers, traceparent)
select id, aggregatetype, aggregateid, type, payload, headers, traceparent
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::jsonb[], $7::text[])
  as given (id, aggregatetype, aggregateid, type, payload, headers, traceparent)`;

/** Writes the events into the outbox, in their order. Nothing is checked against schemas, as with `emit`. Rejects as the driver does. */
export async function emitMany(tx: EmitTransaction, events: ReadonlyArray<BatchEvent>): Promise<void> {
  if (events.length === 0) return;
  await tx.query(INSERT_EVENTS, [
    events.map(({ id }) => id),
    events.map(({ aggregateType }) => aggregateType),
    events.map(({ aggregateId }) => aggregateId),
    events.map(({ type }) => type),
    events.map(({ payload }) => stringifyExactJson(payload)),
    events.map(({ headers }) => JSON.stringify(headers)),
    events.map(({ traceparent }) => traceparent),
  ]);
}
