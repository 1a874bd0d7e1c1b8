/** What comes again of a batch that went on without some of its events. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ConsumedEvent } from '../../../src/inbox/consumed-event.ts';
import { NonRetryableError } from '../../../src/inbox/failure.ts';
import { PutBackEvents } from '../../../src/inbox/put-back.ts';
import { eventId } from '../../support/relay-fixtures.ts';

let events = 0;
function delivery(key: string | null) {
  const n = events++;
  const source = { topic: 't', partition: 0, offset: BigInt(n) };
  const event: ConsumedEvent = {
    ...{ id: eventId(n), type: 'test.Happened', aggregateType: 'test', aggregateId: key, aggregateVersion: null },
    ...{ occurredAt: null, recordedAt: '2026-01-02T03:04:05Z', traceparent: null, headers: {}, value: null, source },
  };
  return { event, key: key === null ? null : Buffer.from(key) };
}

describe('put back', () => {
  test('is what failed, and what stands behind it in its key', () => {
    const run = [delivery('a'), delivery('b'), delivery('a'), delivery('a'), delivery(null), delivery(null)];
    const [, , failed, behind, alone] = run;
    const putBack = new PutBackEvents<ReturnType<typeof delivery>>();
    for (const one of [failed, alone]) putBack.add(run, one?.event ?? assert.fail(), new NonRetryableError('no'));
    assert.deepEqual(
      putBack.of(run).map(({ delivery: one, failure }) => [one, failure?.kind]),
      [
        [failed, 'permanent'],
        [behind, undefined],
        [alone, 'permanent'],
      ],
    );
    assert.deepEqual(
      putBack.withoutOvertaking([delivery('a'), delivery('b'), delivery(null)]).map(({ key }) => key?.toString()),
      ['b', undefined],
    );
  });

  test('is nothing where an event was alone: it has failed', () => {
    const run = [delivery('a')];
    const putBack = new PutBackEvents<ReturnType<typeof delivery>>();
    putBack.throwIfAlone(run);
    const error = new Error('no');
    putBack.add(run, run[0]?.event ?? assert.fail(), error);
    assert.throws(() => putBack.throwIfAlone(run), error);
    putBack.throwIfAlone([...run, delivery('b')]);
  });

  test('takes no event of another batch', () => {
    const putBack = new PutBackEvents<ReturnType<typeof delivery>>();
    assert.throws(() => putBack.add([delivery('a')], delivery('a').event, new Error('no')), /not of the batch/);
  });
});
