import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { EncodeResult, EventEncoder } from '../../../src/events/encoder.ts';
import { TopicRoutes } from '../../../src/events/routes.ts';
import { FerryError } from '../../../src/kernel/errors.ts';
import { createEventWriter, type PayloadOrigin } from '../../../src/outbox/event-writer.ts';
import type { Queryable } from '../../../src/postgres/connection.ts';

const refused: EncodeResult = {
  ok: false,
  refusal: { code: 'SCHEMA_MISMATCH', message: '/total: expected a decimal', path: '/total' },
};
const encoded: EncodeResult = { ok: true, value: Buffer.from([0]), schemaId: 1, subject: 's' };

function encoderOf(result: EncodeResult, refresh: EventEncoder['refresh'] = async () => false): EventEncoder {
  return { encode: () => result, refresh };
}

/** Writes through the given encoder; returns what was inserted. */
async function write(encoder: EventEncoder, origin: PayloadOrigin, aggregateType = 'order') {
  const inserted: unknown[][] = [];
  const tx: Queryable = {
    async query<R>(_text: string, values: unknown[] = []) {
      inserted.push(values);
      return { rows: [{ aggregateversion: 3n }] as R[], rowCount: 1 };
    },
  };
  const writer = createEventWriter(encoder, new TopicRoutes('', new Map()));
  const event = { aggregateType, aggregateId: '1', type: 'a.B', payload: { total: 'sesame' } };
  const outcome = await writer.write(tx, event, origin).catch((error: FerryError) => error);
  return { inserted, outcome };
}

describe('an event writer', () => {
  it('inserts what can be encoded and tells its version', async () => {
    const { inserted, outcome } = await write(encoderOf(encoded), 'client');
    assert.equal(inserted.length, 1);
    assert.ok(!(outcome instanceof Error));
    assert.equal(outcome.aggregateVersion, 3n);
  });

  it('blames the client for its data and us for our mapping, and inserts nothing', async () => {
    for (const [origin, code] of [
      ['client', 'SCHEMA_MISMATCH'],
      ['application', 'EVENT_SCHEMA_MISMATCH'],
    ] as const) {
      const { inserted, outcome } = await write(encoderOf(refused), origin);
      assert.ok(outcome instanceof FerryError);
      assert.equal(outcome.code, code);
      assert.equal(outcome.details.path, '/total');
      assert.doesNotMatch(outcome.message, /sesame/);
      assert.equal(inserted.length, 0);
    }
  });

  it('believes a refusal only after asking the registry, and inserts nothing while that is away', async () => {
    const away = new FerryError('REGISTRY_UNAVAILABLE', 'away');
    const { inserted, outcome } = await write(
      encoderOf(refused, () => Promise.reject(away)),
      'client',
    );
    assert.equal(outcome, away);
    assert.equal(inserted.length, 0);
  });

  it('refuses an aggregatetype that leads to no topic', async () => {
    const { inserted, outcome } = await write(encoderOf(encoded), 'client', 'no topic/at all');
    assert.ok(outcome instanceof FerryError);
    assert.equal(outcome.code, 'TOPIC_INVALID');
    assert.equal(inserted.length, 0);
  });
});
