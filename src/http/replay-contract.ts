/** What the routes of replays take and answer, and how a replay becomes that. */
import { type Static, Type } from '@fastify/type-provider-typebox';
import {
  DEFAULT_EVENTS_PER_SECOND,
  MAX_EVENTS_PER_SECOND,
  type ReplayFacts,
  type ReplayPreview,
} from '../ops/replays.ts';
import { MAX_EVENT_IDS, type Selection } from '../replay/selection.ts';
import { REPLAY_STATES } from '../replay/states.ts';
import type { Replay, ReplayRequest } from '../replay/store.ts';
import { closed, orNull, TIME_PATTERN, Timestamp, text, UuidV7 } from './contract.ts';

const lsn = (description: string) => Type.String({ pattern: '^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$', description });
const time = (description: string) => Type.String({ pattern: TIME_PATTERN, description });
const Count = Type.Integer({ minimum: 0 });
export const Reason = text(
  500,
  'Why: it stands in ferry.audit, and that of the start in each record’s ferry_replay_reason.',
);
const criteria = {
  eventIds: Type.Array(UuidV7, { minItems: 1, maxItems: MAX_EVENT_IDS }),
  aggregateType: text(200, 'Exactly.'),
  aggregateId: text(512, 'Exactly.'),
  type: text(255, 'Full name of the event’s record.'),
  recordedFrom: time('RFC 3339, inclusive: when the row was written, by the database’s clock.'),
  recordedTo: time('RFC 3339, exclusive.'),
  lsnFrom: lsn('WAL position of the row’s insert, inclusive; at most that of its commit, ferry_lsn.'),
  lsnTo: lsn('Exclusive.'),
  schemaId: Type.Integer({
    minimum: 1,
    description: 'That the writer pinned or its bytes name. Rows that say neither are not found by it.',
  }),
};
const Select = Type.Partial(Type.Object(criteria), {
  ...closed,
  description: 'Rows that meet all of these; one at least.',
});
export const ReplayBody = Type.Object(
  {
    select: Select,
    topic: Type.Optional(text(240, 'Side topic, by its full name; left out: each event to the topic where it was.')),
    newIds: Type.Optional(
      Type.Boolean({
        description: 'Records get event ids of their own, and ferry_replay_of; inboxes take them for new.',
      }),
    ),
    schemaId: Type.Optional(Type.Integer({ minimum: 1, description: 'Encode with this schema; all rows must fit.' })),
    eventsPerSecond: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_EVENTS_PER_SECOND,
        description: `Default: ${DEFAULT_EVENTS_PER_SECOND}.`,
      }),
    ),
    reason: Reason,
    dryRun: Type.Optional(Type.Boolean({ description: 'Only count; nothing is begun.' })),
  },
  closed,
);

export const ReplaySchema = Type.Object({
  id: UuidV7,
  relay: Type.String(),
  state: Type.Enum([...REPLAY_STATES]),
  select: Select,
  topic: orNull(Type.String(), 'Side topic.'),
  newIds: Type.Boolean(),
  schemaId: orNull(Type.Integer()),
  eventsPerSecond: Type.Integer(),
  reason: Type.String(),
  requestedBy: Type.String(),
  checked: Type.Boolean({ description: 'The whole selection was looked through, and all of it can be published.' }),
  selected: Type.Integer({ description: 'Rows; final once checked.' }),
  emitted: Type.Integer({ description: 'Records given to the relay; each is published once.' }),
  leftOut: Type.Integer({ description: 'Rows that are dead letters of the relay: they are released or retried.' }),
  unfit: Type.Integer({ description: 'Rows that cannot be encoded so; one refuses the replay.' }),
  unfitExamples: Type.Array(Type.Object({ eventId: UuidV7, code: Type.String(), message: Type.String() })),
  firstEventId: orNull(UuidV7),
  lastEventId: orNull(UuidV7),
  errorCode: orNull(Type.String(), 'Why it waits, was stopped or refused: a code of docs/errors.md.'),
  error: orNull(Type.String()),
  startedAt: Timestamp,
  changedAt: Timestamp,
  endedAt: orNull(Timestamp),
});
export const ReplayFactsSchema = Type.Object({
  ...ReplaySchema.properties,
  relayLagBytes: orNull(Type.Integer(), 'WAL that the relay is behind; null where it has no slot.'),
});
const EventPlace = Type.Object({ id: UuidV7, seq: Type.Integer(), recordedAt: Timestamp });
export const PreviewSchema = Type.Object({
  events: Count,
  lines: Type.Array(
    Type.Object({
      aggregateType: Type.String(),
      type: Type.String(),
      topic: Type.String({ description: 'Where the events are.' }),
      events: Count,
      deadLettered: Type.Integer({ description: 'Of these, left out.' }),
      schemaUnknown: Type.Integer({ description: 'Of these, rows that do not say of which schema they are.' }),
    }),
  ),
  first: orNull(EventPlace),
  last: orNull(EventPlace),
  topics: Type.Array(
    Type.Object({
      topic: Type.String({ description: 'Where the records would go.' }),
      groups: Type.Array(Type.String(), { description: 'Consumer groups with offsets there, which would see them.' }),
    }),
  ),
});

/** What is asked for by a body. */
export function requestOf(body: Static<typeof ReplayBody>): ReplayRequest {
  const { select, topic, newIds, schemaId, eventsPerSecond, reason } = body;
  const { eventIds, aggregateType, aggregateId, type, recordedFrom, recordedTo, lsnFrom, lsnTo } = select;
  const selection: Selection = {
    eventIds: eventIds ?? null,
    aggregateType: aggregateType ?? null,
    aggregateId: aggregateId ?? null,
    type: type ?? null,
    recordedFrom: recordedFrom ?? null,
    recordedTo: recordedTo ?? null,
    lsnFrom: lsnFrom ?? null,
    lsnTo: lsnTo ?? null,
    schemaId: select.schemaId ?? null,
  };
  return {
    selection,
    topic: topic ?? null,
    newIds: newIds ?? false,
    schemaId: schemaId ?? null,
    eventsPerSecond: eventsPerSecond ?? DEFAULT_EVENTS_PER_SECOND,
    reason,
  };
}

/** As it was given: what is null was left out. */
function selectOf({ eventIds, schemaId, ...texts }: Selection): Static<typeof Select> {
  const given = Object.entries(texts).filter(([, criterion]) => criterion !== null);
  return {
    ...Object.fromEntries(given),
    ...(eventIds === null ? {} : { eventIds: [...eventIds] }),
    ...(schemaId === null ? {} : { schemaId }),
  };
}

/** Column by column: cursors and snapshots are the runner's. */
export function bodyOf(job: Replay): Static<typeof ReplaySchema> {
  return {
    id: job.id,
    relay: job.relay,
    state: job.state,
    select: selectOf(job.selection),
    topic: job.topic,
    newIds: job.newIds,
    schemaId: job.schemaId,
    eventsPerSecond: job.eventsPerSecond,
    reason: job.reason,
    requestedBy: job.requestedBy,
    checked: job.checked,
    selected: Number(job.selected),
    emitted: Number(job.emitted),
    leftOut: Number(job.leftOut),
    unfit: Number(job.unfit),
    unfitExamples: [...job.unfitExamples],
    firstEventId: job.firstEventId,
    lastEventId: job.lastEventId,
    errorCode: job.errorCode,
    error: job.error,
    startedAt: job.startedAt,
    changedAt: job.changedAt,
    endedAt: job.endedAt,
  };
}

export function factsOf({ relayLagBytes, ...job }: ReplayFacts): Static<typeof ReplayFactsSchema> {
  return { ...bodyOf(job), relayLagBytes };
}

export function previewOf({ lines, first, last, topics, events }: ReplayPreview): Static<typeof PreviewSchema> {
  const place = (event: ReplayPreview['first']) => (event === null ? null : { ...event, seq: Number(event.seq) });
  return {
    events,
    lines: lines.map((line) => ({ ...line })),
    first: place(first),
    last: place(last),
    topics: topics.map(({ topic, groups }) => ({ topic, groups: [...groups] })),
  };
}
