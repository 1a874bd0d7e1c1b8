/**
 * The table of Ferry's errors: every error a user, a client or an operator can meet has a code here, and `docs/errors.md` lists
 * exactly these (a test holds both together). A message says what happened, to what, and what to do next; it never holds a secret
 * or an event's payload.
 */
interface ErrorKind {
  /** HTTP status where it surfaces over HTTP. */
  readonly status: number;
  /** Whether doing the same thing again later may succeed without anybody changing anything. */
  readonly retryable: boolean;
  /** What it means and what to do, for docs/errors.md. */
  readonly remedy: string;
}

export const ERRORS = {
  // --- configuration and parts
  CONFIG_INVALID: {
    status: 500,
    retryable: false,
    remedy: 'Correct the named environment variable; `./ferry config` lists them all.',
  },
  PART_MISSING: {
    status: 500,
    retryable: false,
    remedy: 'Install the named program, or run `docker compose -f docker/compose.yaml up`.',
  },
  PART_UNREACHABLE: {
    status: 503,
    retryable: true,
    remedy: 'Start the named part or correct its address; `./ferry status` shows all parts.',
  },
  PORT_TAKEN: {
    status: 500,
    retryable: false,
    remedy: 'End the program that listens on the port, or choose another with the named variable.',
  },
  ALREADY_RUNNING: {
    status: 409,
    retryable: false,
    remedy: 'Use the running stack, end it with `./ferry down`, or choose another `--home`.',
  },
  HOME_UNUSABLE: {
    status: 500,
    retryable: false,
    remedy: 'Choose another directory with `--home` (FERRY_HOME), or mend what the message names.',
  },
  MIGRATION_CHANGED: {
    status: 500,
    retryable: false,
    remedy: 'A migration that was applied must never change: restore the file and add a new one.',
  },
  // --- HTTP
  INVALID_REQUEST: { status: 422, retryable: false, remedy: 'Correct the named field.' },
  MALFORMED_REQUEST: {
    status: 400,
    retryable: false,
    remedy: 'Send well-formed JSON with the content type application/json.',
  },
  REQUEST_TOO_LARGE: {
    status: 413,
    retryable: false,
    remedy: 'Make the body smaller or raise HTTP_BODY_LIMIT_BYTES.',
  },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, retryable: false, remedy: 'Send the content type application/json.' },
  UNAUTHENTICATED: { status: 401, retryable: false, remedy: 'Send `Authorization: Bearer <API key>`.' },
  FORBIDDEN: { status: 403, retryable: false, remedy: 'Use a key with the named role.' },
  NOT_FOUND: { status: 404, retryable: false, remedy: 'Check the id.' },
  CONFLICT: { status: 409, retryable: false, remedy: 'Read the current state first; the message names it.' },
  BUSINESS_RULE: { status: 422, retryable: false, remedy: 'The message names the rule and the value that broke it.' },
  IDEMPOTENCY_KEY_MISSING: {
    status: 400,
    retryable: false,
    remedy: 'Send an Idempotency-Key header: a fresh UUID per operation, the same one on a retry.',
  },
  IDEMPOTENCY_KEY_REUSED: {
    status: 422,
    retryable: false,
    remedy: 'The key was used with another body: use a fresh key for another operation.',
  },
  IDEMPOTENCY_KEY_IN_USE: {
    status: 409,
    retryable: true,
    remedy: 'The first request with this key is still running: repeat shortly.',
  },
  PROJECTION_BEHIND: {
    status: 503,
    retryable: true,
    remedy:
      'Repeat after Retry-After seconds, wait longer (`Prefer: wait=10`), or take the stale answer (`Ferry-Allow-Stale: true`).',
  },
  OVERLOADED: { status: 503, retryable: true, remedy: 'Repeat after Retry-After seconds.' },
  INTERNAL: {
    status: 500,
    retryable: false,
    remedy: 'Report it with the request id; the log holds the cause under it.',
  },
  // --- outbox
  EVENT_ID_INVALID: {
    status: 422,
    retryable: false,
    remedy: 'Use ids made by `ferry.uuidv7()`, or leave the column out.',
  },
  PARTITION_MISSING: {
    status: 503,
    retryable: true,
    remedy: 'Run `./ferry migrate`: it makes the partitions of the coming 30 days.',
  },
  OUTBOX_IMMUTABLE: {
    status: 409,
    retryable: false,
    remedy: 'The outbox is a ledger: insert a new event that corrects the old one.',
  },
  // --- schemas and encoding
  SCHEMA_UNKNOWN: {
    status: 422,
    retryable: false,
    remedy: 'Register the type: add schemas/<type>.avsc and run `./ferry schemas push`.',
  },
  SCHEMA_MISMATCH: {
    status: 422,
    retryable: false,
    remedy: 'Correct the named field, or push a schema version that allows it.',
  },
  EVENT_SCHEMA_MISMATCH: {
    status: 500,
    retryable: false,
    remedy:
      'The application maps its rows to an event that the schema refuses: correct the mapping or push the schema.',
  },
  SCHEMA_SUBJECT_MISMATCH: {
    status: 422,
    retryable: false,
    remedy: 'The bytes were written with a schema of another subject than topic and type say.',
  },
  SCHEMA_INCOMPATIBLE: {
    status: 409,
    retryable: false,
    remedy: 'Give new fields a default and remove only fields that have one; the message names what breaks.',
  },
  PAYLOAD_NOT_WIRE_FORMAT: {
    status: 422,
    retryable: false,
    remedy: 'Binary payloads are Confluent wire format: byte 0, four bytes schema id, Avro.',
  },
  REGISTRY_UNAVAILABLE: {
    status: 503,
    retryable: true,
    remedy: 'Start the schema registry; known schemas go on from memory meanwhile.',
  },
  REGISTRY_READ_ONLY: {
    status: 503,
    retryable: true,
    remedy: 'The schema registry takes no changes in its present mode: set it to READWRITE and repeat.',
  },
  SCHEMA_INVALID: {
    status: 422,
    retryable: false,
    remedy: 'The .avsc file breaks a rule of Avro or of Ferry that the message names: correct it.',
  },
  TOPIC_INVALID: {
    status: 422,
    retryable: false,
    remedy: 'Route the aggregatetype with TOPIC_ROUTES to a topic name that is legal and not kept (docs/EVENTS.md).',
  },
  TOPIC_REFUSED: {
    status: 422,
    retryable: false,
    remedy:
      'Kafka does not let the relay have the topic, for the reason that the message names: give it the rights, or route the aggregatetype to another with TOPIC_ROUTES; then release what waits.',
  },
  EVENT_TOO_LARGE: {
    status: 413,
    retryable: false,
    remedy: 'Make the event smaller or raise MAX_EVENT_BYTES and the topic’s max.message.bytes.',
  },
  EVENT_BODY_MISSING: {
    status: 409,
    retryable: false,
    remedy:
      'Neither the outbox nor the dead-letter topic holds the event any more: restore one of them, or discard the event.',
  },
  EVENT_MALFORMED: { status: 422, retryable: false, remedy: 'The outbox row breaks a rule that the message names.' },
  // --- consumer kit: helpers
  VERSION_VECTOR_INVALID: {
    status: 422,
    retryable: false,
    remedy: 'A version vector is a JSON object: node names with counters, whole numbers from 0 to 2^53 - 1.',
  },
  EVENT_UNVERSIONED: {
    status: 422,
    retryable: false,
    remedy: 'Let the writer give the aggregate’s version (`aggregateVersion`), or apply the event without its order.',
  },
  SEQUENCE_OVERFLOW: {
    status: 409,
    retryable: false,
    remedy:
      'The version that the message names is missing: look for it in the dead letters and replay it, or give it up (docs/CONSUMERS.md); then replay the later ones.',
  },
  // --- consumers
  TOO_OLD_TO_DEDUPE: {
    status: 409,
    retryable: false,
    remedy:
      'The event is older than the inbox remembers (INBOX_RETENTION_DAYS) and may have been applied before: check, then apply or discard it by hand.',
  },
  KEY_PARKED: {
    status: 409,
    retryable: true,
    remedy:
      'An earlier event of this key could not be published or applied: mend that one’s cause, then release the key.',
  },
  HANDLER_MISSING: {
    status: 409,
    retryable: false,
    remedy:
      'No handler of the group takes events of this type any more: discard the dead letter, or bring the handler back.',
  },
  // --- replays
  REPLAY_TOPIC_INVALID: {
    status: 422,
    retryable: false,
    remedy: 'Choose a side topic of its own: none of events, of dead letters, of Kafka or of Ferry.',
  },
  REPLAY_ROWS_UNFIT: {
    status: 409,
    retryable: false,
    remedy:
      'Rows of the selection cannot be encoded so, and nothing was published: the replay names the first; choose another schemaId or leave them out.',
  },
  REPLAY_WAITS: {
    status: 503,
    retryable: true,
    remedy: 'The replay waits for the relay and goes on by itself; `./ferry status` shows what the relay waits for.',
  },
  REPLAY_INTERRUPTED: {
    status: 409,
    retryable: false,
    remedy:
      'The relay began a new epoch while the replay ran, so that its last records may be missing: compare their ordinals, then resume it, or cancel it and start another for the rest.',
  },
  REPLAY_ROWS_GONE: {
    status: 409,
    retryable: false,
    remedy: 'Partitions of the outbox were dropped while the replay ran: what was in them cannot be replayed any more.',
  },
  // --- sagas
  SAGA_DEFINITION_CHANGED: {
    status: 500,
    retryable: false,
    remedy:
      'Give the changed definition another version and keep the old one while sagas of it run; the message names it.',
  },
  SAGA_DEFINITION_MISSING: {
    status: 500,
    retryable: false,
    remedy: 'Sagas of the named version are still under way: register its definition again until they have ended.',
  },
  SAGA_STEP_REFUSED: {
    status: 409,
    retryable: false,
    remedy: 'A participant refused the named step: mend the cause there, then retry or skip the step (docs/SAGAS.md).',
  },
  SAGA_STEP_UNANSWERED: {
    status: 503,
    retryable: true,
    remedy: 'A participant does not answer: look at its consumer group and its dead letters, then retry the step.',
  },
  SAGA_TIMER_FAILED: {
    status: 500,
    retryable: true,
    remedy:
      'The saga’s next command cannot be made or written: mend what the message names; the timer is tried again by itself.',
  },
  SAGA_CANCELLED: {
    status: 409,
    retryable: false,
    remedy: 'An operator ended the saga; its history says who and why.',
  },
  // --- relay: refusals to start, each with the way out
  RELAY_IDENTITY_MISMATCH: {
    status: 500,
    retryable: false,
    remedy: 'The checkpoint was written by another relay: correct DATABASE_URL or RELAY_NAME.',
  },
  RELAY_CHECKPOINT_MISSING: {
    status: 500,
    retryable: false,
    remedy: 'Restore the checkpoint topic, or begin a new epoch with `./ferry relay reset --reason …`.',
  },
  RELAY_CHECKPOINT_AHEAD: {
    status: 500,
    retryable: false,
    remedy: 'The database went back behind what was published: `./ferry relay reset` after reading the gap it names.',
  },
  RELAY_SLOT_MISSING: {
    status: 500,
    retryable: false,
    remedy: 'The slot is gone: `./ferry relay reset` makes a new one and publishes what was missed from the outbox.',
  },
  RELAY_SLOT_RECREATED: {
    status: 500,
    retryable: false,
    remedy: 'The slot is newer than the checkpoint: `./ferry relay reset` publishes what was missed from the outbox.',
  },
  RELAY_ROWS_FOREIGN: {
    status: 500,
    retryable: false,
    remedy:
      'Rows were copied into the outbox from another server: give them transaction ids of this one (docs/OPERATIONS.md has the statements), then start the relay.',
  },
  RELAY_HISTORY_DIVERGED: {
    status: 500,
    retryable: false,
    remedy:
      'The database was restored or failed over to a copy that lagged: read the named range, then `./ferry relay reset`.',
  },
  RELAY_PARTITIONS_CHANGED: {
    status: 500,
    retryable: false,
    remedy:
      'A topic’s partition count or identity changed, which breaks the order per key: restore it, or `./ferry relay reset`.',
  },
  RELAY_PUBLICATION_MISSING: {
    status: 500,
    retryable: false,
    remedy: 'Run `./ferry migrate`: it makes the publication; it must exist before the slot.',
  },
  RELAY_PUBLICATION_CHANGED: {
    status: 500,
    retryable: false,
    remedy:
      'The publication is newer than the slot: `./ferry relay reset --reason …` publishes from the outbox what was missed.',
  },
  RELAY_POISON_HALT: {
    status: 500,
    retryable: false,
    remedy:
      'An event cannot be published, and its tier says halt: push a schema that takes it, or give its type another tier (EVENT_TIERS, TIERS), then start the relay again.',
  },
  RELAY_PARKED_FULL: {
    status: 500,
    retryable: false,
    remedy:
      'More events wait behind poison than are allowed: raise RELAY_PARKED_MAX_EVENTS_PER_KEY or RELAY_PARKED_MAX_EVENTS, start the relay again, mend the cause, and release the key.',
  },
  RELAY_WAL_LEVEL: { status: 500, retryable: false, remedy: 'Set wal_level = logical in Postgres and restart it.' },
  RELAY_CONFIGURATION: { status: 500, retryable: false, remedy: 'The message names what to correct.' },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

/** Facts about an error that a program may read: field paths, LSNs, ids; never payloads or secrets. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | null>>;

export class FerryError extends Error {
  override readonly name = 'FerryError';
  readonly code: ErrorCode;
  readonly details: ErrorDetails;
  constructor(code: ErrorCode, message: string, options: { cause?: unknown; details?: ErrorDetails } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
  }
  get status(): number {
    return ERRORS[this.code].status;
  }
  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }
  get remedy(): string {
    return ERRORS[this.code].remedy;
  }
}

/** Makes an Error of whatever was thrown; used once, at the catch. */
export function coerceError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(`a non-error was thrown: ${String(thrown)}`);
}

/** The message with those of its causes, for a log line or a terminal. */
export function describeError(thrown: unknown): string {
  const parts: string[] = [];
  for (let error: unknown = thrown; error !== undefined && parts.length < 5; ) {
    const known = coerceError(error);
    parts.push(known.message === '' ? known.name : known.message);
    error = known instanceof AggregateError && known.cause === undefined ? known.errors[0] : known.cause;
  }
  return parts.join(': ');
}
