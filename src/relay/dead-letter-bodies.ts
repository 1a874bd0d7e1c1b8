/**
 * The events that were set aside, as they can be published now: from the outbox, with what operators have edited, else from the dead-letter
 * topic. From each, a bound of bytes is in memory at once, and the event that went beyond it.
 */
import { eventOfDeadLetter } from '../events/dead-letter.ts';
import type { OutboxEvent } from '../events/outbox-event.ts';
import { deadLetterTopic } from '../events/routes.ts';
import { readEvents } from '../outbox/event-reader.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { BatchLimits } from './batch.ts';
import type { Sink } from './sink.ts';

export interface DeadLetterBodiesOptions {
  readonly control: Queryable;
  readonly sink: Pick<Sink, 'deadLetters'>;
  readonly limits: BatchLimits;
}

interface Letter {
  readonly event: OutboxEvent;
  readonly bytes: number;
}

export class DeadLetterBodies {
  readonly #options: DeadLetterBodiesOptions;

  constructor(options: DeadLetterBodiesOptions) {
    this.#options = options;
  }

  /** Of events of one key: one for each id, in their order; undefined where nothing holds it. */
  async *read(topic: string, key: string, ids: readonly string[]): AsyncGenerator<OutboxEvent | undefined, undefined> {
    const { control, limits } = this.#options;
    for (let rest = ids; rest.length > 0; ) {
      const { maxBytes, maxEvents } = limits;
      const { events, looked } = await readEvents(control, rest.slice(0, maxEvents), { maxBytes, edited: true });
      const rows = new Map<string, OutboxEvent>(events.map((event) => [event.id, event]));
      const missing = rest.slice(0, looked).filter((id) => !rows.has(id));
      const letters = await this.#readTopic(deadLetterTopic(topic), key, missing);
      const unread = missing[letters.length];
      const known = rest.slice(0, unread === undefined ? looked : rest.indexOf(unread));
      rest = rest.slice(known.length);
      let next = 0;
      for (const id of known) yield rows.get(id) ?? letters[next++];
    }
    return undefined;
  }

  /**
   * Of as many of the ids, from the first on, as fit; at least one. An event that was refused again has several records: the newest counts, so
   * the partition is read to its end.
   */
  async #readTopic(topic: string, key: string, ids: readonly string[]): Promise<Array<OutboxEvent | undefined>> {
    if (ids.length === 0) return [];
    const letters = new Map<string, Letter>();
    const wanted = new Set(ids);
    let fitting = ids.length;
    let bytes = 0;
    const forget = (id: string) => {
      bytes -= letters.get(id)?.bytes ?? 0;
      letters.delete(id);
    };
    for await (const { id, value, headers } of this.#options.sink.deadLetters(topic, key, wanted)) {
      const event = eventOfDeadLetter(value, headers);
      if (event === null || !wanted.has(id)) continue;
      forget(id);
      letters.set(id, { event, bytes: value?.length ?? 0 });
      bytes += value?.length ?? 0;
      while (bytes > this.#options.limits.maxBytes && fitting > 1) {
        fitting -= 1;
        const last = ids[fitting] ?? '';
        wanted.delete(last);
        forget(last);
      }
    }
    return ids.slice(0, fitting).map((id) => letters.get(id)?.event);
  }
}
