/** The SQL of the projection (migrations/ferry/0145_dead_letter.sql): positions in the dead-letter topics, and the letters read there. */
import type { Queryable } from '../postgres/connection.ts';
import type { Letter } from './letter.ts';
import type { ReadPayload } from './payload.ts';

/** How far a partition has been read. */
export interface SourcePosition {
  readonly topicId: string;
  readonly nextOffset: bigint;
}

/** By partition. */
export async function readPositions(db: Queryable, topic: string): Promise<Map<number, SourcePosition>> {
  const { rows } = await db.query<{ partition: number; topic_id: string; next_offset: bigint }>(
    'select partition, topic_id, next_offset from ferry.dead_letter_source where topic = $1',
    [topic],
  );
  return new Map(rows.map((row) => [row.partition, { topicId: row.topic_id, nextOffset: row.next_offset }]));
}

/**
 * Moves a partition's position, and keeps others from moving it until the transaction ends. False if it is not where the caller read from:
 * somebody else has entered those records.
 */
export async function movePosition(
  tx: Queryable,
  { topic, partition }: { topic: string; partition: number },
  from: SourcePosition | null,
  to: SourcePosition,
): Promise<boolean> {
  const { rowCount } =
    from === null
      ? await tx.query(
          `insert into ferry.dead_letter_source (topic, partition, topic_id, next_offset) values ($1, $2, $3, $4)
           on conflict do nothing`,
          [topic, partition, to.topicId, to.nextOffset],
        )
      : await tx.query(
          `update ferry.dead_letter_source set topic_id = $3, next_offset = $4, read_at = clock_timestamp()
           where topic = $1 and partition = $2 and topic_id = $5 and next_offset = $6`,
          [topic, partition, to.topicId, to.nextOffset, from.topicId, from.nextOffset],
        );
  return rowCount === 1;
}

/**
 * Enters a letter. Of an event that its owner has set aside before it is a further copy: it counts, and tells of the newest failure; bytes and
 * headers stay those of the first. One that failed after it was dealt with is open again. Resolves true if it is a new one.
 */
export async function enterLetter(tx: Queryable, letter: Letter, payload: ReadPayload | null): Promise<boolean> {
  const { rows } = await tx.query<{ copies: number }>(
    `insert into ferry.dead_letter as known
            (id, consumer_group, event_id, recorded_at, event_type, source_topic, source_position, key, value, headers, original_record, payload,
             schema_id, code, error_type, error_message, error_stack, retry_count, max_retries, first_failed_at, failed_at, replayable,
             blocked_by, topic, partition, record_offset)
     values (ferry.uuidv7(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)
     on conflict (consumer_group, event_id) where event_id is not null do update
     set copies = known.copies + 1, code = excluded.code, error_type = excluded.error_type, error_message = excluded.error_message,
         error_stack = excluded.error_stack, retry_count = excluded.retry_count, max_retries = excluded.max_retries,
         failed_at = excluded.failed_at, replayable = excluded.replayable, blocked_by = excluded.blocked_by,
         state = case when known.state in ('resolved', 'discarded') and excluded.failed_at > known.state_at then 'open' else known.state end,
         state_at = case when known.state in ('resolved', 'discarded') and excluded.failed_at > known.state_at
                         then clock_timestamp() else known.state_at end
     returning copies`,
    [
      ...[letter.group, letter.eventId, letter.recordedAt, letter.type, letter.sourceTopic, letter.sourcePosition],
      ...[letter.key, letter.value],
      ...[JSON.stringify(letter.headers), letter.originalRecord, payload?.text ?? null, payload?.schemaId ?? null],
      ...[letter.code, letter.errorType, letter.errorMessage, letter.errorStack, letter.retryCount, letter.maxRetries],
      ...[letter.firstFailedAt, letter.failedAt, letter.replayable, letter.blockedBy],
      ...[letter.topic, letter.partition, letter.offset],
    ],
  );
  return rows[0]?.copies === 1;
}
