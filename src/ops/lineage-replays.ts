/** Which replays have an event in their selection. */
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';
import { SELECTED, type Selection, selectedValues } from '../replay/selection.ts';
import type { ReplayState } from '../replay/states.ts';

export interface ReplayOfEvent {
  readonly replayId: string;
  readonly state: ReplayState;
  /** Whether it has come past the event: then it is published again, unless it is a dead letter. */
  readonly passed: boolean;
  /** Side topic; null: where the event was. */
  readonly topic: string | null;
  readonly newIds: boolean;
  readonly reason: string;
  readonly startedAt: string;
}

interface ReplayRow extends ReplayOfEvent {
  readonly selection: Selection;
  readonly snapshot: string;
}

/** Newest first, at most 20 that could have it are asked. `seq` is the event's in the outbox. */
export async function readReplays(db: Queryable, id: EventId, seq: bigint): Promise<ReplayOfEvent[]> {
  const { rows } = await db.query<ReplayRow & Record<string, unknown>>(
    `select id as "replayId", state, checked and cursor_seq >= $1 as passed, topic, new_ids as "newIds", reason,
            started_at as "startedAt", selection, snapshot::text as snapshot
     from ferry.replay where first_seq <= $1 and last_seq >= $1 and state <> 'refused' order by started_at desc limit 20`,
    [String(seq)],
  );
  const found: ReplayOfEvent[] = [];
  for (const { selection, snapshot, ...replay } of rows) {
    const { rows: facts } = await db.query(`select 1 from ferry.outbox_fact fact where fact.id = $11 and ${SELECTED}`, [
      ...selectedValues(selection, { snapshot }),
      id,
    ]);
    if (facts.length > 0) found.push(replay);
  }
  return found;
}
