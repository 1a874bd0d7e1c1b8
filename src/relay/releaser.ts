/**
 * Publishes what was set aside, when a release comes by in the WAL: of a parked key its events in their order, until one cannot be published
 * still, or one dead letter that holds nobody up. The list is the relay's own (parked-keys.ts), the bodies are not
 * (dead-letter-bodies.ts). Each event leaves the list in the Kafka transaction that publishes it, so whatever dies in between, the rest is found again.
 */
import type { EventTiers } from '../config/tiers.ts';
import type { OutboxEvent, Position } from '../events/outbox-event.ts';
import { HEADER, recordBytes } from '../events/record.ts';
import { decodeRelease, type ReleaseMessage } from '../events/release-message.ts';
import type { ErrorCode } from '../kernel/errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { BatchEntry, LedgerNote } from './batch.ts';
import type { Partial, RelayRun } from './checkpoint.ts';
import type { ControlGate, ControlMessage } from './control-gate.ts';
import { DeadLetterBodies, type DeadLetterBodiesOptions } from './dead-letter-bodies.ts';
import { claimLetter } from './dead-letter-notes.ts';
import type { ParkedEvent, ParkedKey, ParkedKeys } from './parked-keys.ts';
import type { RecordFactory, Refused } from './record-factory.ts';

export interface ReleaserOptions extends DeadLetterBodiesOptions {
  readonly own: RelayRun;
  readonly factory: RecordFactory;
  readonly parked: ParkedKeys;
  readonly tiers: EventTiers;
  /** Where the session took up a transaction that was split before. */
  readonly resumed: Partial | null;
  readonly gate: Pick<ControlGate, 'accept' | 'reject'>;
  readonly logger: Logger;
}

/** What becomes of one event; the rest of a BatchEntry depends on the message alone. */
type Outcome = Pick<BatchEntry, 'record' | 'state' | 'eventId' | 'traceparent' | 'position' | 'note'>;

/** A release under way. */
interface Release {
  readonly request: ReleaseMessage;
  /** The message's place. */
  readonly by: Position;
  readonly headers: Readonly<Record<string, string>>;
  /** Answers of the registry that are older do not count. */
  readonly freshSinceMs: number;
}

export class Releaser {
  readonly #options: ReleaserOptions;
  readonly #bodies: DeadLetterBodies;

  constructor(options: ReleaserOptions) {
    this.#options = options;
    this.#bodies = new DeadLetterBodies(options);
  }

  /** The handler of messages `release` (control-gate.ts). */
  async *handle(message: ControlMessage): AsyncGenerator<BatchEntry> {
    const { gate, parked, logger } = this.#options;
    const request = decodeRelease(message.body);
    if (request === null) {
      gate.reject(message, 'the body is none that this version of Ferry can read');
      return;
    }
    gate.accept(message);
    const headers = { [HEADER.release]: request.id };
    const release = { request, by: message.position, headers, freshSinceMs: message.receivedAtMs };
    const { event } = request;
    const key = parked.find(request.topic, request.key);
    const isMeant = event === null || this.#isResumed(release) || key?.events.some(({ eventId }) => eventId === event);
    if (key !== undefined && isMeant) yield* this.#releaseKey(release, key);
    else if (event !== null) yield* this.#releaseLetter(release, event);
    else
      logger.info({ release: request.id, topic: request.topic }, 'a key was to be released of which nothing is parked');
  }

  /** An earlier session may have published a part of the list, and with it the event that the message names. */
  #isResumed({ by }: Release): boolean {
    const { resumed } = this.#options;
    return resumed !== null && resumed.commitLsn === by.commitLsn && resumed.seq === by.seq - 1;
  }

  async *#releaseKey(release: Release, key: ParkedKey): AsyncGenerator<BatchEntry> {
    const { by, request } = release;
    const skip = new Set(request.skip);
    const wanted = key.events.map(({ eventId }) => eventId).filter((id) => !skip.has(id));
    const bodies = this.#bodies.read(key.topic, key.key, wanted);
    const total = key.events.length;
    let done = 0;
    for (const event of key.events) {
      const outcome = skip.has(event.eventId)
        ? this.#discard(key, event, by)
        : await this.#publish(release, key, event, (await bodies.next()).value);
      const stays = isParked(outcome.note);
      if (!stays) done += 1;
      yield asEntry(outcome, by, stays || done === total);
      if (!stays) continue;
      this.#tell(release, key, done, event.eventId);
      return;
    }
    this.#tell(release, key, done, null);
  }

  #tell({ request }: Release, { topic, events }: ParkedKey, done: number, behind: string | null): void {
    const about = { release: request.id, by: request.by, topic, events: done };
    if (behind === null) this.#options.logger.info(about, 'a parked key is released');
    else
      this.#options.logger.warn(
        { ...about, left: events.length - done, behind },
        'a key stays parked: one of its events still cannot be published',
      );
  }

  #discard(key: ParkedKey, { eventId, position }: ParkedEvent, by: Position): Outcome {
    const state = this.#options.parked.remove(key.topic, key.key, eventId);
    return {
      record: null,
      state,
      eventId,
      traceparent: null,
      position,
      note: { kind: 'resolved', as: 'discarded', by },
    };
  }

  async #publish(
    release: Release,
    { topic, key }: ParkedKey,
    { eventId, position, ordinal }: ParkedEvent,
    event: OutboxEvent | undefined,
  ): Promise<Outcome> {
    const { parked, tiers, factory } = this.#options;
    if (event === undefined) {
      const code = 'EVENT_BODY_MISSING';
      const note = letterNote(code, topic, key, ordinal);
      return { record: null, state: parked.refuse(topic, key, code), eventId, traceparent: null, position, note };
    }
    const made = await factory.publish(event, position, release);
    if ('record' in made) {
      const state = parked.remove(topic, key, eventId);
      return { ...made, state, note: { kind: 'resolved', as: 'published', by: release.by } };
    }
    const { code } = made.refusal;
    // since it was parked, its tier may have become one that holds nobody up
    if (tiers.of(event.type).poison === 'dead-letter') {
      const again = await this.#refusedAgain(release, event, position, made, letterNote(code, topic, key, null));
      return { ...again, state: parked.remove(topic, key, eventId) };
    }
    const again = await this.#refusedAgain(release, event, position, made, letterNote(code, topic, key, ordinal));
    return { ...again, state: parked.refuse(topic, key, code) };
  }

  /** One that holds nobody up. Of several messages that name it, one publishes it. */
  async *#releaseLetter(release: Release, eventId: string): AsyncGenerator<BatchEntry> {
    const { control, own, factory, logger } = this.#options;
    const { request, by } = release;
    const about = { release: request.id, by: request.by, eventId };
    const { value: event } = await this.#bodies.read(request.topic, request.key, [eventId]).next();
    if (event === undefined) {
      logger.error(
        { ...about, code: 'EVENT_BODY_MISSING' },
        'a dead letter cannot be released: nothing holds its body',
      );
      return;
    }
    const position = await claimLetter(control, own, eventId, by);
    if (position === null) {
      logger.warn(about, 'what was to be released is no dead letter of this relay, or is parked: then release its key');
      return;
    }
    const headers = { ...release.headers, [HEADER.releasedAlone]: 'true' };
    const made = await factory.publish(event, position, { ...release, headers });
    if ('record' in made) {
      yield asEntry({ ...made, note: { kind: 'resolved', as: 'published', by } }, by, true);
      return;
    }
    const note = letterNote(made.refusal.code, made.topic, event.aggregateId, null);
    logger.warn({ ...about, code: made.refusal.code }, 'a dead letter still cannot be published');
    yield asEntry(await this.#refusedAgain(release, event, position, made, note), by, true);
  }

  async #refusedAgain(
    release: Release,
    event: OutboxEvent,
    position: Position,
    refused: Refused,
    note: LedgerNote,
  ): Promise<Outcome> {
    const record = await this.#options.factory.deadLetterAgain(event, position, refused, release.headers);
    return { record, state: null, eventId: event.id, traceparent: event.traceparent, position, note };
  }
}

/** All but the last leave the message to be received again: what is left of the list then is the rest. */
function asEntry(outcome: Outcome, by: Position, isLast: boolean): BatchEntry {
  const { record, state } = outcome;
  const bytes = (record === null ? 0 : recordBytes(record)) + (state === null ? 0 : recordBytes(state));
  return { ...outcome, bytes, byControl: true, doneSeq: isLast ? by.seq : by.seq - 1 };
}

function letterNote(code: ErrorCode, topic: string, key: string, ordinal: number | null): LedgerNote {
  return { kind: 'dead-letter', code, topic, key, ordinal, blockedBy: null };
}

function isParked(note: LedgerNote | null): boolean {
  return note?.kind === 'dead-letter' && note.ordinal !== null;
}
