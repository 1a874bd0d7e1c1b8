/** The ChangeStream port on a real logical replication connection: pgoutput messages become changes, one for one. */
import type {
  Change,
  ChangeSink,
  ChangeStream,
  IgnoredKind,
  OpenChangeStream,
  ServerIdentity,
} from '../events/change-stream.ts';
import { SlotBusyError, SlotMissingError } from '../events/change-stream.ts';
import { coerceError, FerryError } from '../kernel/errors.ts';
import { type Lsn, parseLsn } from '../kernel/lsn.ts';
import type { ConnectionSettings } from '../postgres/connection.ts';
import { ReplicationConnection, type ReplicationTarget } from '../postgres/replication.ts';
import { OutboxRowDecoder, RowError } from './outbox-row.ts';
import { decodePgOutput, type Relation } from './pgoutput.ts';

const OUTBOX = { schema: 'ferry', table: 'outbox' };

/** What a publication of more than the outbox's inserts sends. */
const OTHERS: ReadonlyMap<string, IgnoredKind> = new Map([
  ['U', 'update'],
  ['D', 'delete'],
  ['T', 'truncate'],
]);

/** SQLSTATEs of START_REPLICATION that say something about the slot. */
const OBJECT_IN_USE = '55006';
const UNDEFINED_OBJECT = '42704';
const OBJECT_NOT_IN_PREREQUISITE_STATE = '55000';

export function changeStreamOpener(settings: ConnectionSettings, target: ReplicationTarget): OpenChangeStream {
  return async () => {
    const gate = new Gate();
    try {
      const connection = await ReplicationConnection.open(settings, `ferry relay ${target.slot}`, target, gate);
      return asChangeStream(connection, gate);
    } catch (error) {
      throw explainStartFailure(error, target.slot);
    }
  };
}

/**
 * Keeps what the server sent along with its answer to START_REPLICATION until somebody takes it; the socket is paused meanwhile. Closes
 * for good at the first change that cannot be handed on: what comes after it would leave a hole behind.
 */
export class Gate {
  readonly failed = Promise.withResolvers<Error>();
  readonly #early: Array<() => void> = [];
  #decoder: ChangeDecoder | null = null;
  #sink: ChangeSink | null = null;
  #closed = false;

  open(sink: ChangeSink): void {
    this.#sink = sink;
    this.#decoder = new ChangeDecoder(sink);
    for (const replay of this.#early.splice(0)) replay();
  }

  onData(payload: Buffer): void {
    if (this.#closed) return;
    if (this.#decoder === null) {
      this.#early.push(() => this.onData(payload));
      return;
    }
    try {
      this.#decoder.take(payload);
    } catch (error) {
      this.#closed = true;
      this.failed.resolve(coerceError(error)); // thrown into the library's socket callback it would end the process
    }
  }

  onKeepalive(lsn: Lsn, replyRequested: boolean): void {
    if (this.#closed) return;
    if (this.#sink === null) this.#early.push(() => this.onKeepalive(lsn, replyRequested));
    else this.#sink.onKeepalive(lsn, replyRequested);
  }
}

function asChangeStream(connection: ReplicationConnection, gate: Gate): ChangeStream {
  return {
    identity: toServerIdentity(connection.identity),
    processId: connection.processId,
    ended: Promise.race([connection.ended, gate.failed.promise]),
    get bytesReceived() {
      return connection.bytesReceived;
    },
    start(sink) {
      gate.open(sink);
      connection.resume();
    },
    pause: () => connection.pause(),
    resume: () => connection.resume(),
    confirm: (lsn, options) => connection.confirm(lsn, options?.requestReply ?? false),
    stop: () => connection.stop(),
  };
}

function toServerIdentity({ history, ...identity }: ReplicationConnection['identity']): ServerIdentity {
  const switchPoints = new Map<number, Lsn>();
  for (const line of history.split('\n')) {
    const match = /^(\d+)\s+([0-9A-F]+\/[0-9A-F]+)/i.exec(line.trim());
    if (match?.[1] !== undefined && match[2] !== undefined) switchPoints.set(Number(match[1]), parseLsn(match[2]));
  }
  return { ...identity, switchPoints };
}

function explainStartFailure(thrown: unknown, slot: string): Error {
  const error = coerceError(thrown);
  const code = 'code' in error ? error.code : undefined;
  if (code === OBJECT_IN_USE) return new SlotBusyError(`replication slot ${slot} is in use`, { cause: error });
  if (code === UNDEFINED_OBJECT || code === OBJECT_NOT_IN_PREREQUISITE_STATE) {
    return new SlotMissingError(`replication slot ${slot} cannot be read: ${error.message}`, { cause: error });
  }
  return error;
}

/** Decodes messages in order; knows which relation the outbox is. */
export class ChangeDecoder {
  readonly #sink: ChangeSink;
  readonly #relations = new Map<number, { relation: Relation; outbox: OutboxRowDecoder | null }>();

  constructor(sink: ChangeSink) {
    this.#sink = sink;
  }

  take(payload: Buffer): void {
    const message = decodePgOutput(payload);
    switch (message.tag) {
      case 'insert':
        this.#sink.onChange(this.#insert(message.relationId, message.tuple));
        break;
      case 'begin':
        this.#sink.onChange({
          kind: 'begin',
          commitLsn: message.finalLsn,
          xid: message.xid,
          commitTimeMs: message.commitTimeMs,
        });
        break;
      case 'commit': {
        const { commitLsn, endLsn, commitTimeMs } = message;
        this.#sink.onChange({ kind: 'commit', commitLsn, endLsn, commitTimeMs });
        break;
      }
      case 'relation':
        this.#relations.set(message.relation.id, {
          relation: message.relation,
          outbox: outboxDecoder(message.relation),
        });
        break;
      case 'message':
        // A message outside of a transaction has no place in the commit order: nobody of ours sends one.
        if (message.transactional)
          this.#sink.onChange({ kind: 'message', prefix: message.prefix, content: message.content });
        else this.#ignore('message', 'message outside of a transaction');
        break;
      case 'other':
        this.#ignore(OTHERS.get(message.letter) ?? 'other', `message ${message.letter}`);
        break;
    }
  }

  #ignore(as: IgnoredKind, what: string): void {
    this.#sink.onChange({ kind: 'ignored', what, as, countsInSeq: false });
  }

  #insert(relationId: number, tuple: Buffer): Change {
    const known = this.#relations.get(relationId);
    if (known === undefined) throw new Error(`an insert names relation ${relationId}, which was never described`);
    if (known.outbox === null) {
      return {
        kind: 'ignored',
        what: `insert into ${known.relation.schema}.${known.relation.table}`,
        as: 'insert',
        countsInSeq: true,
      };
    }
    try {
      return { kind: 'event', event: known.outbox.decode(tuple), bytes: tuple.length };
    } catch (error) {
      if (!(error instanceof RowError)) throw error;
      const refusal = { code: 'EVENT_MALFORMED', message: error.message, path: null } as const;
      return { kind: 'malformed', ...known.outbox.describe(tuple), refusal, original: tuple };
    }
  }
}

/** Null for another table. A publication that leaves columns out is no publication of the outbox: for an operator to mend. */
function outboxDecoder(relation: Relation): OutboxRowDecoder | null {
  if (relation.schema !== OUTBOX.schema || relation.table !== OUTBOX.table) return null;
  try {
    return new OutboxRowDecoder(relation);
  } catch (cause) {
    throw new FerryError('RELAY_CONFIGURATION', `the publication does not publish all of ferry.outbox`, { cause });
  }
}
