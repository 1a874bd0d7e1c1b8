/**
 * One step of a replay, in one transaction: look through a page of the selection, or emit a page's messages, and move the cursor with it. So
 * whatever dies, the messages of a page are in the WAL once, and the next step begins behind them.
 */
import { v7 } from 'uuid';
import { encodeReplayMessage } from '../events/replay-message.ts';
import type { EventId } from '../kernel/event-id.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import { parseLsn } from '../kernel/lsn.ts';
import { emitControls } from '../outbox/control-writer.ts';
import { currentPosition } from '../outbox/position.ts';
import { readPublishedLsn } from '../outbox/relay-progress.ts';
import type { Queryable } from '../postgres/connection.ts';
import { readPage, type SelectedRow } from './pages.ts';
import { type Codec, whyUnfit, withSchema } from './reencoding.ts';
import { readRelayLag } from './relay-lag.ts';
import { type Replay, saveReplay, type UnfitRow } from './store.ts';

export interface StepOptions {
  readonly codec: Codec;
  /** WAL that the relay may be behind before a replay waits for it. */
  readonly maxLagBytes: number;
  /** Makes sure of the side topic before the first record. Rejects with REPLAY_TOPIC_INVALID, or with what may pass. */
  readonly prepareTopic: (topic: string) => Promise<void>;
  readonly failPoint: FailPoint;
}

export interface StepResult {
  /** Messages emitted. */
  readonly emitted: number;
  /** The relay should tell how far it is: the replay waits for nothing else. */
  readonly waitsForRelay: boolean;
}

const CHECK_LIMITS = { maxRows: 1_000, maxBytes: 4_194_304 };
const MAX_PAGE_ROWS = 500;
const MAX_PAGE_BYTES = 1_048_576;
/** Pages a second: a rate that is kept over longer would come in bursts. */
const PAGES_PER_SECOND = 4;
const MAX_EXAMPLES = 10;
const WAIT_MS = 500;

/** Takes the next step of a replay that the transaction has locked. */
export function takeStep(tx: Queryable, job: Replay, options: StepOptions): Promise<StepResult> {
  const clean = { ...job, errorCode: null, error: null };
  if (job.state === 'checking') return check(tx, clean, options);
  return job.cursorSeq < job.lastSeq ? emit(tx, clean, options) : drain(tx, clean);
}

const WORKED: StepResult = { emitted: 0, waitsForRelay: false };
const WAITS: StepResult = { emitted: 0, waitsForRelay: true };

/** Looks whether a page can be published; at the end of the selection, decides. */
async function check(tx: Queryable, job: Replay, { codec, prepareTopic }: StepOptions): Promise<StepResult> {
  if (job.topic !== null && job.cursorSeq < job.firstSeq) await prepareTopic(job.topic);
  const page = await readPage(tx, job, CHECK_LIMITS);
  const found: UnfitRow[] = [];
  for (const { event, deadLettered } of page.rows) {
    if (deadLettered) continue; // left out when its turn comes
    const unfit = await whyUnfit(event, job.schemaId, codec);
    if (unfit !== null) found.push(unfit);
  }
  const unfit = job.unfit + BigInt(found.length);
  const next: Replay = {
    ...job,
    cursorSeq: page.cursorSeq,
    selected: job.selected + BigInt(page.rows.length),
    firstEventId: job.firstEventId ?? page.rows[0]?.event.id ?? null,
    lastEventId: page.rows.at(-1)?.event.id ?? job.lastEventId,
    unfit,
    unfitExamples: [...job.unfitExamples, ...found].slice(0, MAX_EXAMPLES),
  };
  await saveReplay(tx, page.cursorSeq < job.lastSeq ? next : decided(next));
  return WORKED;
}

function decided(job: Replay): Replay {
  if (job.unfit === 0n) return { ...job, state: 'running', checked: true, cursorSeq: job.firstSeq - 1n };
  const error = `${job.unfit} of ${job.selected} rows cannot be encoded so; nothing was published`;
  return { ...job, state: 'refused', errorCode: 'REPLAY_ROWS_UNFIT', error };
}

/** Emits the messages of a page, if the relay keeps up. */
async function emit(tx: Queryable, job: Replay, options: StepOptions): Promise<StepResult> {
  const lag = await readRelayLag(tx, job.relay);
  if (lag === null || lag.bytes > options.maxLagBytes) {
    const error =
      lag === null
        ? `relay ${job.relay} has no slot yet that would read the replay`
        : `relay ${job.relay} is ${lag.bytes} bytes of WAL behind; the replay goes on below ${options.maxLagBytes}`;
    await saveReplay(tx, { ...job, errorCode: 'REPLAY_WAITS', error }, WAIT_MS);
    return WAITS;
  }
  if (job.epoch !== null && job.epoch !== lag.epoch) return interrupt(tx, job, lag.epoch);
  const maxRows = Math.min(MAX_PAGE_ROWS, Math.ceil(job.eventsPerSecond / PAGES_PER_SECOND));
  const page = await readPage(tx, job, { maxRows, maxBytes: MAX_PAGE_BYTES });
  const rows = page.rows.filter(({ deadLettered }) => !deadLettered);
  const bodies: string[] = [];
  for (const row of rows)
    bodies.push(await messageOf(job, row, job.emitted + BigInt(bodies.length + 1), options.codec));
  await emitControls(tx, job.relay, 'replay', bodies);
  const emitted = job.emitted + BigInt(bodies.length);
  const leftOut = job.leftOut + BigInt(page.rows.length - rows.length);
  const pauseMs = (bodies.length / job.eventsPerSecond) * 1_000;
  await saveReplay(tx, { ...job, cursorSeq: page.cursorSeq, epoch: lag.epoch, emitted, leftOut }, pauseMs);
  if (bodies.length > 0) options.failPoint('before-replay-commit');
  return { emitted: bodies.length, waitsForRelay: false };
}

async function messageOf(job: Replay, { event }: SelectedRow, ordinal: bigint, codec: Codec): Promise<string> {
  const { id: replay, reason, topic, newIds, schemaId } = job;
  const encoded = await withSchema(event, schemaId, codec);
  // Under another id it is another event to the inboxes: as old as its id, or the oldest would be refused as too old to be told apart.
  const identity = newIds ? { id: v7() as EventId, recordedAt: now() } : {};
  return encodeReplayMessage({
    ...{ replay, reason, topic },
    ordinal: Number(ordinal),
    of: newIds ? event.id : null,
    event: { ...encoded, ...identity },
  });
}

/** RFC 3339 with the six digits that Postgres gives. */
function now(): string {
  return new Date().toISOString().replace('Z', '000Z');
}

/** A relay that began anew reads from a new slot: what was emitted and not published is in no slot any more. */
async function interrupt(tx: Queryable, job: Replay, epoch: number): Promise<StepResult> {
  const error =
    `relay ${job.relay} began epoch ${epoch}; of the ${job.emitted} records emitted in epoch ${job.epoch} the last may not be published: ` +
    'compare the ordinals in Kafka';
  await saveReplay(tx, {
    ...job,
    state: 'paused',
    epoch: null,
    drainLsn: null,
    errorCode: 'REPLAY_INTERRUPTED',
    error,
  });
  return WORKED;
}

/** All is emitted; complete once the relay has published it. */
async function drain(tx: Queryable, job: Replay): Promise<StepResult> {
  const lag = await readRelayLag(tx, job.relay);
  if (lag !== null && job.epoch !== null && lag.epoch !== job.epoch) return interrupt(tx, job, lag.epoch);
  const drainLsn = job.drainLsn ?? (await currentPosition(tx));
  const published = await readPublishedLsn(tx, job.relay);
  if (published === null || published < parseLsn(drainLsn)) {
    await saveReplay(tx, { ...job, drainLsn }, WAIT_MS);
    return WAITS;
  }
  const gone = job.selected - job.emitted - job.leftOut;
  const problem =
    gone === 0n
      ? {}
      : ({ errorCode: 'REPLAY_ROWS_GONE', error: `${gone} rows were dropped from the outbox meanwhile` } as const);
  await saveReplay(tx, { ...job, drainLsn, ...problem, state: 'completed' });
  return WORKED;
}
