/**
 * Lets control messages in, and nothing that only looks like one: anybody may emit a message under our prefixes, as often as they like, so
 * what is forged is counted, told of once, and otherwise ignored.
 */
import { CONTROL_KINDS, type ControlKind, controlPrefix, openControl } from '../events/control-message.ts';
import type { Position } from '../events/outbox-event.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { BatchEntry } from './batch.ts';

/** A message that was sealed with the relay's key. */
export interface ControlMessage {
  readonly control: ControlKind;
  readonly body: string;
  /** The message's own place in the WAL. */
  readonly position: Position;
  /** By performance.now(). */
  readonly receivedAtMs: number;
}

/**
 * What a message leads to: the entries to publish at its place, in order. They may go out in several Kafka transactions, and between two of
 * them the relay may die: then it receives the message again, unless the entry's `doneSeq` covers it. So all but the last have the `doneSeq`
 * before the message's, and a handler that yields several must find out by itself which are left. A message that a handler cannot read it
 * reports with `reject` and yields nothing; it throws only for what is unreachable, and then the session begins anew.
 */
export type ControlHandler = (message: ControlMessage) => AsyncIterable<BatchEntry>;

export type ControlHandlers = Readonly<Partial<Record<ControlKind, ControlHandler>>>;

export class ControlGate {
  readonly #key: Buffer;
  readonly #kinds: ReadonlyMap<string, ControlKind>;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #told = new Set<string>();

  constructor(relay: string, key: Buffer, { logger, metrics }: { logger: Logger; metrics: Metrics }) {
    this.#key = key;
    this.#kinds = new Map(CONTROL_KINDS.map((kind) => [controlPrefix(relay, kind), kind]));
    this.#logger = logger;
    this.#metrics = metrics;
  }

  /** The message, or null if it is none for us. */
  open(prefix: string, content: Buffer): Pick<ControlMessage, 'control' | 'body'> | null {
    const kind = this.#kinds.get(prefix);
    if (kind === undefined) return null;
    const body = openControl(this.#key, prefix, content);
    if (body !== null) return { control: kind, body };
    this.#metrics.controlMessagesTotal.add(1, { kind, result: 'forged' });
    this.#tellOnce(kind, 'ignoring a control message that was not sealed with the key of this relay');
    return null;
  }

  /** The message was done as it says. */
  accept({ control }: ControlMessage): void {
    this.#metrics.controlMessagesTotal.add(1, { kind: control, result: 'accepted' });
  }

  /** Nothing can be made of the message: another version's, or nobody here knows its kind. */
  reject({ control }: ControlMessage, reason: string): void {
    this.#metrics.controlMessagesTotal.add(1, { kind: control, result: 'rejected' });
    this.#tellOnce(control, `ignoring a control message: ${reason}`);
  }

  #tellOnce(kind: ControlKind, message: string): void {
    if (this.#told.has(kind + message)) return;
    if (this.#told.size < 100) this.#told.add(kind + message);
    this.#logger.warn({ kind }, message);
  }
}
