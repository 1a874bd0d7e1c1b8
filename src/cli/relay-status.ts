/** How far a relay is, as the database and the checkpoint topic tell it: true also when the relay itself is not running. */
import type { Config } from '../config/variables.ts';
import { formatLsn } from '../kernel/lsn.ts';
import type { Queryable } from '../postgres/connection.ts';
import { readNewestCheckpoint } from '../relay/checkpoint-log.ts';
import { relayNames } from '../relay/names.ts';
import { readRunningTransactions } from '../relay/slot.ts';
import type { EventLog } from './event-log.ts';

export interface SlotState {
  /** `streaming` while a relay reads the slot, `stopped` while none does, `never started` without a slot. */
  readonly state: string;
  readonly slot: string | null;
  /** WAL written and not yet confirmed by the relay. */
  readonly lagBytes: number | null;
  readonly confirmedLsn: string | null;
}

export interface SlotStatus extends SlotState {
  /** Age of the oldest row that is not known to be published; 0 when all are. */
  readonly lagSeconds: number;
  readonly outboxRows: number;
  readonly pending: number;
  readonly deadLettered: number;
  /** Transactions, prepared ones too, that have been open for long: WAL is kept for them, whatever the relay does. */
  readonly longTransactions: readonly string[];
}

export interface CheckpointStatus {
  readonly lsn: string;
  readonly lastEventId: string | null;
}

const LONG_TRANSACTION_SECONDS = 60;

/** The slot and the outbox behind it. */
export async function readSlotStatus(db: Queryable, relay: string): Promise<SlotStatus> {
  const slot = await readSlotState(db, relay);
  const { rows, pending, deadLettered, lagSeconds } = await countOutbox(db, relay);
  return {
    ...slot,
    lagSeconds,
    outboxRows: Number(rows),
    pending: Number(pending),
    deadLettered: Number(deadLettered),
    longTransactions: await readRunningTransactions(db, LONG_TRANSACTION_SECONDS),
  };
}

/** The slot of the relay's newest epoch. */
export async function readSlotState(db: Queryable, relay: string): Promise<SlotState> {
  const { rows } = await db.query<SlotRow & Record<string, unknown>>(
    `select epoch.slot as name, slot.active, slot.confirmed_flush_lsn::text as confirmed,
            (pg_current_wal_lsn() - slot.confirmed_flush_lsn)::bigint as "lagBytes"
       from (select slot from ferry.relay_epoch where relay = $1 order by epoch desc limit 1) epoch
       left join pg_replication_slots slot on slot.slot_name = epoch.slot`,
    [relay],
  );
  const row = rows[0];
  return {
    state: row === undefined ? 'never started' : row.active ? 'streaming' : 'stopped',
    slot: row?.name ?? null,
    lagBytes: row === undefined || row.lagBytes === null ? null : Number(row.lagBytes),
    confirmedLsn: row?.confirmed ?? null,
  };
}

interface SlotRow {
  readonly name: string;
  readonly active: boolean | null;
  readonly confirmed: string | null;
  readonly lagBytes: bigint | null;
}

interface OutboxCounts {
  readonly rows: bigint;
  readonly pending: bigint;
  readonly deadLettered: bigint;
  readonly lagSeconds: number;
}

/** One pass over the outbox: exact, and as long as the outbox is large; the statement time-out bounds it. */
async function countOutbox(db: Queryable, relay: string): Promise<OutboxCounts> {
  const { rows } = await db.query<OutboxCounts & Record<string, unknown>>(
    `with progress as (select published_snapshot from ferry.relay_progress where relay = $1),
          outbox as (select recorded_at,
                            not coalesce(pg_visible_in_snapshot(tx, (select published_snapshot from progress)), false) as pending
                       from ferry.outbox)
     select count(*) as rows, count(*) filter (where pending) as pending,
            (select count(*) from ferry.relay_dead_letter where relay = $1) as "deadLettered",
            coalesce(round(extract(epoch from clock_timestamp() - min(recorded_at) filter (where pending)), 1), 0)::float8
              as "lagSeconds"
       from outbox`,
    [relay],
  );
  const counts = rows[0];
  if (counts === undefined) throw new Error('an aggregate without a row');
  return counts;
}

const READ_TIMEOUT_MS = 15_000;

/** The newest checkpoint that is decided; null before the first. */
export async function readCheckpointStatus(events: EventLog, config: Config): Promise<CheckpointStatus | null> {
  const topic = relayNames(config).checkpointTopic;
  if (!(await events.topicExists(topic))) return null;
  const checkpoint = await readNewestCheckpoint(events.log, topic, 'last-stable', READ_TIMEOUT_MS);
  return checkpoint === null ? null : { lsn: formatLsn(checkpoint.endLsn), lastEventId: checkpoint.lastEventId };
}
