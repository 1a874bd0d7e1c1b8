/** Made-up histories with poison in them and releases between, and what must become of both: a model of the parked keys, a page long. */
import fc from 'fast-check';
import type { Change } from '../../src/events/change-stream.ts';
import { controlPrefix, sealControl } from '../../src/events/control-message.ts';
import type { EncodeResult, EventEncoder } from '../../src/events/encoder.ts';
import type { OutboxEvent } from '../../src/events/outbox-event.ts';
import { encodeRelease } from '../../src/events/release-message.ts';
import type { Queryable } from '../../src/postgres/connection.ts';
import { CONTROL_KEY, eventId, outboxEvent, plainEncoder } from './relay-fixtures.ts';
import { transaction, type WalTransaction } from './wal-history.ts';

const KEYS = ['a', 'b', 'ключ \u0001"\\'] as const;
type Key = (typeof KEYS)[number];

/** `soft` poison is mended by the time that its key is released; `hard` never is. */
type Step =
  | { readonly what: 'good' | 'soft' | 'hard'; readonly key: Key }
  /** `named`: by the key's newest event, which is parked if the key is. */
  | { readonly what: 'release'; readonly key: Key; readonly givesUp: boolean; readonly named: boolean };

const key = fc.constantFrom(...KEYS);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 9, arbitrary: fc.record({ what: fc.constant('good' as const), key }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constantFrom('soft' as const, 'hard' as const), key }) },
  {
    weight: 4,
    arbitrary: fc.record({ what: fc.constant('release' as const), key, givesUp: fc.boolean(), named: fc.boolean() }),
  },
);
const steps = fc.oneof(
  { weight: 6, arbitrary: fc.array(step, { maxLength: 4 }) },
  { weight: 1, arbitrary: fc.array(step, { minLength: 10, maxLength: 40 }) },
);

export interface PoisonHistory {
  readonly transactions: readonly WalTransaction[];
  /** What must be in Kafka, in order: `published`, `dead` or `dead again`, with the event's number. */
  readonly outcome: readonly string[];
  /** Numbers of the events that are parked in the end, by key. */
  readonly parked: ReadonlyMap<string, readonly number[]>;
}

export const anyPoisonHistory: fc.Arbitrary<PoisonHistory> = fc.array(steps, { maxLength: 25 }).map((shapes) => {
  let at = 1_000;
  let n = 0;
  const hard: number[] = [];
  const newest = new Map<Key, number>();
  const model = new Model();
  const transactions = shapes.map((one, i) => {
    at += 50;
    const changes = one.map((each): Change => {
      n += 1;
      if (each.what === 'release') {
        const given = each.givesUp ? hard : [];
        model.release(each.key, given);
        return releaseOf(n, each.key, given, each.named ? (newest.get(each.key) ?? null) : null);
      }
      if (each.what === 'hard') hard.push(n);
      model.event(n, each);
      newest.set(each.key, n);
      return { kind: 'event', event: eventOf(n, each.key, each.what), bytes: 40 };
    });
    return transaction(at, 700 + i, changes);
  });
  return { transactions, outcome: model.outcome, parked: model.parked };
});

class Model {
  readonly outcome: string[] = [];
  readonly #waiting = new Map<string, Array<{ n: number; what: 'good' | 'soft' | 'hard' }>>();

  event(n: number, { key, what }: { key: string; what: 'good' | 'soft' | 'hard' }): void {
    const waiting = this.#waiting.get(key);
    if (waiting === undefined && what === 'good') this.outcome.push(`published ${n}`);
    else {
      this.outcome.push(`dead ${n}`);
      this.#waiting.set(key, [...(waiting ?? []), { n, what }]);
    }
  }

  release(key: string, given: readonly number[]): void {
    const waiting = this.#waiting.get(key) ?? [];
    for (let head = waiting[0]; head !== undefined; head = waiting[0]) {
      if (head.what === 'hard' && !given.includes(head.n)) {
        this.outcome.push(`dead again ${head.n}`);
        return;
      }
      if (head.what !== 'hard') this.outcome.push(`published ${head.n}`);
      waiting.shift();
    }
    this.#waiting.delete(key);
  }

  get parked(): ReadonlyMap<string, readonly number[]> {
    return new Map([...this.#waiting].map(([key, events]) => [key, events.map(({ n }) => n)]));
  }
}

/** Refuses what says that it is poison. */
export const poisonEncoder: EventEncoder = {
  encode: (event, topic): EncodeResult =>
    event.payload.kind === 'json' && /soft|hard/.test(event.payload.text)
      ? { ok: false, refusal: { code: 'SCHEMA_MISMATCH', message: 'poison', path: null } }
      : plainEncoder.encode(event, topic),
  refresh: async () => false,
};

/** A database that has the rows of the history, the soft poison mended in them, and forgets notes. */
export function mendedRows({ transactions }: PoisonHistory): Queryable {
  const rows = new Map<string, { readonly id: string; readonly payload: string | null }>();
  for (const change of transactions.flatMap(({ changes }) => changes)) {
    if (change.kind === 'event') rows.set(change.event.id, rowOf(change.event));
  }
  return {
    async query<R>(text: string, values: unknown[] = []) {
      const ids = /from ferry\.outbox/.test(text) && Array.isArray(values[0]) ? values[0] : [];
      let bytes = 0;
      const found: object[] = [];
      for (const id of ids) {
        if (bytes >= Number(values[1])) break;
        const row = rows.get(String(id)) ?? { id: null, payload: null };
        found.push({ ...row, looked: found.length + 1 });
        bytes += row.payload?.length ?? 0;
      }
      return { rows: found as R[], rowCount: found.length };
    },
  };
}

function rowOf(event: OutboxEvent) {
  const payload = event.payload.kind === 'json' ? event.payload.text.replace('soft', 'mended') : null;
  return {
    ...{ id: event.id, aggregatetype: event.aggregateType, aggregateid: event.aggregateId, aggregateversion: null },
    ...{ type: event.type, payload, payload_bytes: null, schema_id: null, headers: {}, traceparent: null },
    ...{ occurred_at: event.occurredAt, recorded_at: event.recordedAt, seq: event.seq },
  };
}

function eventOf(n: number, aggregateId: string, what: string): OutboxEvent {
  return outboxEvent(n, { aggregateId, payload: { kind: 'json', text: `{"n":${n},"what":"${what}"}` } });
}

function releaseOf(n: number, aggregateId: string, given: readonly number[], named: number | null): Change {
  const prefix = controlPrefix('main', 'release');
  const skip = given.map(eventId);
  const event = named === null ? null : eventId(named);
  const body = encodeRelease({ id: eventId(n), topic: 't.shop.order', key: aggregateId, by: 'test', skip, event });
  return { kind: 'message', prefix, content: sealControl(CONTROL_KEY, prefix, body) };
}
