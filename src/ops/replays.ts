/** What operators do about replays: begin one, see how far it is, stop it and let it go on; each with an audit row in its transaction. */
import { type Actor, recordOperation } from '../domain/audit.ts';
import type { TopicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import { newEventId } from '../outbox/emit.ts';
import type { Queryable } from '../postgres/connection.ts';
import { openScope, type Preview, previewReplay } from '../replay/preview.ts';
import { readRelayLag } from '../replay/relay-lag.ts';
import { isEmptySelection, MAX_EVENT_IDS, type Selection } from '../replay/selection.ts';
import { checkSideTopic } from '../replay/side-topic.ts';
import { type ReplayAction, stateAfter } from '../replay/states.ts';
import { findReplay, insertReplay, lockReplay, type Replay, type ReplayRequest, saveReplay } from '../replay/store.ts';

/** Whose outbox rows, and where they are. */
export interface ReplayPlace {
  readonly relay: string;
  readonly routes: TopicRoutes;
  readonly topicPrefix: string;
}

export const DEFAULT_EVENTS_PER_SECOND = 1_000;
export const MAX_EVENTS_PER_SECOND = 100_000;

/** The consumer groups that have committed offsets in each of the topics. */
export type GroupsOfTopics = (topics: readonly string[]) => Promise<ReadonlyMap<string, readonly string[]>>;

export interface ReplayPreview extends Preview {
  /** Where the records would go, with the groups that would see them. */
  readonly topics: ReadonlyArray<{ readonly topic: string; readonly groups: readonly string[] }>;
}

export interface ReplayFacts extends Replay {
  /** WAL that the relay is behind; null where it has no slot. */
  readonly relayLagBytes: number | null;
}

/**
 * Counts what a replay would be about; publishes and writes nothing. Rejects with INVALID_REQUEST, REPLAY_TOPIC_INVALID, OVERLOADED after
 * `timeoutMs`.
 */
export async function dryRun(
  db: Queryable,
  place: ReplayPlace,
  groupsOf: GroupsOfTopics,
  { selection, topic }: Pick<ReplayRequest, 'selection' | 'topic'>,
  timeoutMs: number,
): Promise<ReplayPreview> {
  checkRequest(place, { selection, topic });
  const preview = await previewReplay(db, { ...place, selection, timeoutMs });
  const topics = topic === null ? [...new Set(preview.lines.map((line) => line.topic))] : [topic];
  const groups = await groupsOf(topics);
  return { ...preview, topics: topics.map((name) => ({ topic: name, groups: groups.get(name) ?? [] })) };
}

/**
 * Begins a replay of what is committed now, in the caller's transaction (READ COMMITTED); the role `ops` goes on with it. Resolves with its
 * id. Rejects with INVALID_REQUEST, REPLAY_TOPIC_INVALID, or BUSINESS_RULE if there can be no such row.
 */
export async function startReplay(
  tx: Queryable,
  actor: Actor,
  place: ReplayPlace,
  request: ReplayRequest,
): Promise<string> {
  checkRequest(place, request);
  const scope = await openScope(tx, request.selection);
  if (scope === null) throw new FerryError('BUSINESS_RULE', 'the outbox holds no row that the selection can mean');
  const id: string = newEventId();
  await insertReplay(tx, { ...request, ...scope, id, relay: place.relay, requestedBy: actor.principal });
  await audit(tx, actor, 'start', id, request.reason);
  return id;
}

/** Rejects with NOT_FOUND, or CONFLICT naming the state that does not allow the action. */
export async function operateReplay(
  tx: Queryable,
  actor: Actor,
  { id, action, reason }: { id: string; action: ReplayAction; reason: string },
): Promise<void> {
  const job = await lockReplay(tx, id);
  if (job === null) throw notFound(id);
  const state = stateAfter(action, job.state, job.checked);
  if (state === null) throw new FerryError('CONFLICT', `replay ${id} is ${job.state}: ${action} is not possible`);
  await saveReplay(tx, { ...job, state, errorCode: null, error: null });
  await audit(tx, actor, action, id, reason);
}

/** Rejects with NOT_FOUND. */
export async function knownReplay(db: Queryable, id: string): Promise<ReplayFacts> {
  const job = await findReplay(db, id);
  if (job === null) throw notFound(id);
  return { ...job, relayLagBytes: (await readRelayLag(db, job.relay))?.bytes ?? null };
}

function checkRequest(
  { routes, topicPrefix }: ReplayPlace,
  { selection, topic }: Pick<ReplayRequest, 'selection' | 'topic'>,
): void {
  if (isEmptySelection(selection)) {
    throw invalid('/select', 'says nothing: give one criterion at least; all of a time is a time range');
  }
  const ids = selection.eventIds?.length ?? 1;
  if (ids === 0 || ids > MAX_EVENT_IDS) throw invalid('/select/eventIds', `takes 1 to ${MAX_EVENT_IDS} ids`);
  if (topic !== null) checkSideTopic(topic, routes, topicPrefix);
  checkRange(selection);
}

function checkRange({ recordedFrom, recordedTo }: Selection): void {
  if (recordedFrom === null || recordedTo === null) return;
  if (Date.parse(recordedFrom) >= Date.parse(recordedTo))
    throw invalid('/select/recordedTo', 'is not after recordedFrom');
}

function invalid(path: string, problem: string): FerryError {
  return new FerryError('INVALID_REQUEST', `${path} ${problem}`, { details: { path } });
}

function notFound(id: string): FerryError {
  return new FerryError('NOT_FOUND', `there is no replay ${id}`);
}

function audit(tx: Queryable, actor: Actor, action: string, id: string, reason: string): Promise<void> {
  return recordOperation(tx, actor, { action: `replay.${action}`, subject: `replay/${id}`, eventId: null, reason });
}
