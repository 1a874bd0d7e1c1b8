/** Where the bodies of what is released come from, and that no more of them is held than the bound says: read more often instead. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HEADER } from '../../../src/events/record.ts';
import type { Queryable } from '../../../src/postgres/connection.ts';
import { DeadLetterBodies } from '../../../src/relay/dead-letter-bodies.ts';
import type { DeadLetterRecord, Sink } from '../../../src/relay/sink.ts';
import { eventId } from '../../support/relay-fixtures.ts';

const LIMITS = { maxEvents: 100, maxBytes: 100 };

/** No row is left: all ids are looked at. */
const emptyOutbox: Queryable = {
  async query<R>(_text: string, [ids]: unknown[] = []) {
    const rows = (Array.isArray(ids) ? ids : []).map((_, i) => ({ id: null, looked: i + 1 })) as R[];
    return { rows, rowCount: rows.length };
  },
};

function letter(n: number, body: string): DeadLetterRecord {
  const headers = {
    ...{ [HEADER.id]: eventId(n), [HEADER.type]: 'test.Happened', [HEADER.subject]: 'k', [HEADER.time]: '' },
    ...{ [HEADER.aggregateType]: 'order', original_record: 'value' },
  };
  return { id: eventId(n), value: Buffer.from(body), headers };
}

class Topic implements Pick<Sink, 'deadLetters'> {
  reads = 0;
  readonly #letters: readonly DeadLetterRecord[];

  constructor(letters: readonly DeadLetterRecord[]) {
    this.#letters = letters;
  }

  async *deadLetters(_topic: string, _key: string, ids: ReadonlySet<string>): AsyncGenerator<DeadLetterRecord> {
    this.reads += 1;
    for (const one of this.#letters) if (ids.has(one.id)) yield one;
  }
}

async function bodiesOf(topic: Topic, numbers: readonly number[]): Promise<Array<string | undefined>> {
  const bodies = new DeadLetterBodies({ control: emptyOutbox, sink: topic, limits: LIMITS });
  const events = await Array.fromAsync(bodies.read('order', 'k', numbers.map(eventId)));
  return events.map((event) => (event?.payload.kind === 'json' ? event.payload.text : undefined));
}

describe('bodies that only the dead-letter topic holds', () => {
  test('are read as many at a time as fit, in the order of the list', async () => {
    const numbers = Array.from({ length: 10 }, (_, i) => i + 1);
    const body = (n: number) => `"${String(n).padStart(38, 'x')}"`; // 40 bytes
    const topic = new Topic(numbers.toReversed().map((n) => letter(n, body(n))));
    assert.deepEqual(await bodiesOf(topic, numbers), numbers.map(body));
    assert.equal(topic.reads, 5);
  });

  test('are those of the newest record, and one that is larger than the bound comes alone', async () => {
    const large = `"${'x'.repeat(200)}"`;
    const topic = new Topic([letter(1, '"old"'), letter(3, '"three"'), letter(2, large), letter(1, '"new"')]);
    assert.deepEqual(await bodiesOf(topic, [1, 2, 3, 4]), ['"new"', large, '"three"', undefined]);
    assert.equal(topic.reads, 3);
  });
});
