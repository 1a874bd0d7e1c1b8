/**
 * The checkpoint: what a relay has published, committed in the same Kafka transaction as the events themselves. Its record is the only
 * truth about the relay's position; the slot in Postgres may lag behind it, never the other way round.
 */
import * as v from 'valibot';
import { FerryError } from '../kernel/errors.ts';
import { formatLsn, type Lsn, parseLsn } from '../kernel/lsn.ts';
import { FERRY_VERSION } from '../kernel/version.ts';

/** What was published of a transaction that is split over several Kafka transactions. */
export interface Partial {
  readonly commitLsn: Lsn;
  readonly xid: number;
  /** Insert and Message messages since BEGIN that are done with. */
  readonly seq: number;
}

/** How far the rows older than the slot were published; null when that is over. */
export interface Backfill {
  /** All rows up to this `seq` are done with. */
  readonly rowSeq: bigint;
  /** How many were published: their position, since they have none in this slot's WAL. */
  readonly count: number;
}

/**
 * The LSN that rows older than the slot share: one below where its stream begins, so that no transaction read from it has the same.
 * `streamStart` is the slot's consistent point, and the checkpoint's end as long as the backfill lasts.
 */
export function backfillLsn(streamStart: Lsn): Lsn {
  return (streamStart - 1n) as Lsn;
}

/** What the position refers to: on any other database, slot or history it would mean something else. */
export interface CheckpointIdentity {
  readonly relay: string;
  readonly systemId: string;
  readonly database: string;
  readonly slot: string;
  readonly epoch: number;
}

/** One start of a relay: the counter that it was given in ferry.relay_run. */
export interface RelayRun {
  readonly relay: string;
  readonly run: bigint;
}

export interface PinnedTopic {
  readonly id: string;
  readonly partitions: number;
}

export interface Checkpoint extends CheckpointIdentity, RelayRun {
  readonly timeline: number;
  /** End of the last whole transaction: the only LSN ever confirmed to Postgres. */
  readonly endLsn: Lsn;
  readonly partial: Partial | null;
  readonly backfill: Backfill | null;
  readonly lastEventId: string | null;
  /** Commit time in Postgres of the newest transaction, milliseconds since the epoch; 0 before the first. */
  readonly commitTimeMs: number;
  readonly topics: ReadonlyMap<string, PinnedTopic>;
  /** Topics of the epochs before: once the routes are others, nothing else tells that they hold events. Names only, they may change or go. */
  readonly formerTopics: readonly string[];
}

const LsnText = v.pipe(v.string(), v.regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/));
const Count = v.pipe(v.number(), v.integer(), v.minValue(0));
const Digits = v.pipe(v.string(), v.regex(/^[0-9]+$/));

const CheckpointRecord = v.object({
  v: v.literal(1),
  relay: v.string(),
  system_id: v.string(),
  timeline: Count,
  database: v.string(),
  slot: v.string(),
  epoch: Count,
  run: Digits,
  end_lsn: LsnText,
  partial: v.nullable(v.object({ commit_lsn: LsnText, xid: Count, seq: Count })),
  backfill: v.nullable(v.object({ row_seq: Digits, count: Count })),
  last_event_id: v.nullable(v.string()),
  commit_time_ms: v.number(),
  topics: v.record(v.string(), v.object({ id: v.string(), partitions: Count })),
  former_topics: v.optional(v.array(v.string())), // older versions wrote none
  ferry: v.string(),
});

/** Every topic that this epoch or one before it wrote to. */
export function topicsEver({ topics, formerTopics }: Pick<Checkpoint, 'topics' | 'formerTopics'>): string[] {
  return [...new Set([...formerTopics, ...topics.keys()])];
}

export function encodeCheckpoint(checkpoint: Checkpoint): Buffer {
  const { partial, backfill } = checkpoint;
  return Buffer.from(
    JSON.stringify({
      v: 1,
      relay: checkpoint.relay,
      system_id: checkpoint.systemId,
      timeline: checkpoint.timeline,
      database: checkpoint.database,
      slot: checkpoint.slot,
      epoch: checkpoint.epoch,
      run: String(checkpoint.run),
      end_lsn: formatLsn(checkpoint.endLsn),
      partial:
        partial === null ? null : { commit_lsn: formatLsn(partial.commitLsn), xid: partial.xid, seq: partial.seq },
      backfill: backfill === null ? null : { row_seq: String(backfill.rowSeq), count: backfill.count },
      last_event_id: checkpoint.lastEventId,
      commit_time_ms: checkpoint.commitTimeMs,
      topics: Object.fromEntries(checkpoint.topics),
      former_topics: checkpoint.formerTopics,
      ferry: FERRY_VERSION,
    }),
  );
}

/** Throws RELAY_CHECKPOINT_MISSING when the bytes are no checkpoint of a version that this program knows. */
export function decodeCheckpoint(bytes: Buffer): Checkpoint {
  let record: unknown;
  try {
    record = JSON.parse(bytes.toString());
  } catch {
    record = undefined;
  }
  if (!v.is(CheckpointRecord, record)) {
    throw new FerryError(
      'RELAY_CHECKPOINT_MISSING',
      'the newest record of the checkpoint topic is no checkpoint that this version of Ferry can read',
    );
  }
  const { partial, backfill } = record;
  return {
    relay: record.relay,
    systemId: record.system_id,
    timeline: record.timeline,
    database: record.database,
    slot: record.slot,
    epoch: record.epoch,
    run: BigInt(record.run),
    endLsn: parseLsn(record.end_lsn),
    partial: partial === null ? null : { commitLsn: parseLsn(partial.commit_lsn), xid: partial.xid, seq: partial.seq },
    backfill: backfill === null ? null : { rowSeq: BigInt(backfill.row_seq), count: backfill.count },
    lastEventId: record.last_event_id,
    commitTimeMs: record.commit_time_ms,
    topics: new Map(Object.entries(record.topics)),
    formerTopics: record.former_topics ?? [],
  };
}
