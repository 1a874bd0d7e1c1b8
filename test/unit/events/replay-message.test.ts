/** A replay's message tells the whole event, and what is none is told from it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Payload } from '../../../src/events/outbox-event.ts';
import { decodeReplayMessage, encodeReplayMessage, type ReplayMessage } from '../../../src/events/replay-message.ts';
import { eventId, outboxEvent } from '../../support/relay-fixtures.ts';

const payloads: fc.Arbitrary<Payload> = fc.oneof(
  fc.json().map((text): Payload => ({ kind: 'json', text })),
  fc.uint8Array().map((bytes): Payload => ({ kind: 'avro', bytes: Buffer.from(bytes) })),
  fc.constant<Payload>({ kind: 'tombstone' }),
);
const messages: fc.Arbitrary<ReplayMessage> = fc
  .record({
    payload: payloads,
    aggregateId: fc.string({ unit: 'grapheme' }),
    aggregateVersion: fc.option(fc.bigInt(1n, 2n ** 63n - 1n)),
    schemaId: fc.option(fc.nat()),
    traceparent: fc.option(fc.string()),
    headers: fc.dictionary(fc.string(), fc.string()).map((headers) => ({ ...headers })),
  })
  .chain((event) =>
    fc.record({
      replay: fc.constant(eventId(9)),
      reason: fc.string(),
      topic: fc.option(fc.string()),
      ordinal: fc.integer({ min: 1 }),
      of: fc.constantFrom(null, eventId(3)),
      event: fc.constant(outboxEvent(1, event)),
    }),
  )
  .map((message) => ({ ...message }));

test('what goes in comes out', () => {
  fc.assert(
    fc.property(messages, (message) => assert.deepEqual(decodeReplayMessage(encodeReplayMessage(message)), message)),
  );
});

test('what is no message of this version is none', () => {
  const body = encodeReplayMessage({
    ...{ replay: eventId(9), reason: 'x', topic: null, ordinal: 1, of: null },
    event: outboxEvent(1),
  });
  assert.notEqual(decodeReplayMessage(body), null);
  const parsed = JSON.parse(body);
  const broken = [
    '',
    '{}',
    'null',
    JSON.stringify({ ...parsed, v: 2 }),
    JSON.stringify({ ...parsed, ordinal: 0 }),
    JSON.stringify({ ...parsed, replay: 'x' }),
    JSON.stringify({ ...parsed, event: { ...parsed.event, id: 'x' } }),
    JSON.stringify({ ...parsed, event: { ...parsed.event, payload: { kind: 'xml' } } }),
    JSON.stringify({ ...parsed, event: { ...parsed.event, aggregateVersion: '-1' } }),
  ];
  for (const text of broken) assert.equal(decodeReplayMessage(text), null, text);
});
