/** `./ferry sagas`: find sagas, see one with its whole history, and do what an operator can do about one that waits. */
import { userInfo } from 'node:os';
import { metrics } from '@opentelemetry/api';
import { databasesOf } from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import { fulfilment } from '../domain/commerce/fulfilment.ts';
import { describeError, FerryError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import { FERRY_VERSION } from '../kernel/version.ts';
import { OPERATOR_ACTIONS, operateSaga } from '../ops/saga-operator.ts';
import {
  findEvents,
  findSaga,
  findSagaSummary,
  listSagas,
  type SagaEvent,
  type SagaHistoryFacts,
  type SagaSummary,
} from '../ops/sagas.ts';
import { createPool, type Pool } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import { SagaEngine } from '../saga/engine.ts';
import type { OperatorAction } from '../saga/instance.ts';
import type { InstanceState } from '../saga/states.ts';
import { createLogger } from '../telemetry/logger.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { placesByRoute, placesInKafka } from './event-places.ts';
import { printSaga } from './saga-text.ts';
import { type CommonOptions, requireAddress, type Session, sessionConfig } from './session.ts';
import { plainTable } from './terminal.ts';

export const SAGA_ACTIONS = ['list', 'show', ...(Object.keys(OPERATOR_ACTIONS) as OperatorAction[])] as const;
type SagaAction = (typeof SAGA_ACTIONS)[number];

export interface SagasOptions extends CommonOptions {
  readonly name?: string;
  readonly state?: InstanceState;
  readonly key?: string;
  readonly step?: string;
  readonly startedAfter?: string;
  readonly startedBefore?: string;
  readonly limit: number;
  readonly offsets?: boolean;
  readonly reason?: string;
}

const SAGA_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Throws INVALID_REQUEST naming the word or option that is missing, NOT_FOUND, CONFLICT if the saga's state does not allow the action. */
export async function runSagas(session: Session, options: SagasOptions, args: readonly string[]): Promise<void> {
  const [action, id = ''] = args as [SagaAction, string | undefined];
  const config = sessionConfig(session);
  requireAddress(config, 'DATABASE_URL');
  if (action !== 'list' && !SAGA_ID.test(id)) {
    throw new FerryError('INVALID_REQUEST', `\`./ferry sagas ${action} <id>\` takes the id of a saga, a UUID`);
  }
  const pool = createPool(config, 'ferry sagas', { max: 1 });
  try {
    if (action === 'list') await list(session, pool, options);
    else if (action === 'show') await show(session, config, pool, { id, offsets: options.offsets === true });
    else await operate(session, config, pool, { action, sagaId: id, reason: options.reason ?? '' });
  } finally {
    await pool.end();
  }
}

async function list(session: Session, pool: Pool, options: SagasOptions): Promise<void> {
  const { name = null, state = null, key = null, step = null, limit } = options;
  const { startedAfter = null, startedBefore = null } = options;
  const filter = { name, state, key, step, startedAfter, startedBefore, before: null, limit: limit + 1 };
  const found = await listSagas(pool, filter);
  const sagas = found.slice(0, limit);
  const more = found.length > limit;
  if (session.json) return session.terminal.printJson({ sagas, more });
  session.terminal.print(sagas.length === 0 ? 'no saga is like that' : plainTable(sagas.map(listRow), LIST_HEAD));
  if (more) session.terminal.note(`there are more: narrow them down, or raise --limit (${limit})`);
}

const LIST_HEAD = ['saga', 'name', 'key', 'state', 'step', 'tries', 'started', 'last change', 'error'];

function listRow(saga: SagaSummary): string[] {
  const { id, name, key, state, step, tries, startedAt, changedAt, errorCode } = saga;
  return [id, name, key, state, step ?? '', step === null ? '' : String(tries), startedAt, changedAt, errorCode ?? ''];
}

async function show(
  session: Session,
  config: Config,
  pool: Pool,
  { id, offsets }: { id: string; offsets: boolean },
): Promise<void> {
  const found = await findSaga(pool, id, config.RELAY_NAME);
  if (found === null) throw new FerryError('NOT_FOUND', `there is no saga ${id}`);
  const saga = { ...found, history: await withForeignReplies(session, config, found.history) };
  const events = saga.history.flatMap(({ event }) => event ?? []);
  const places = offsets ? await placesInKafka(config, events) : placesByRoute(config, events);
  if (session.json) session.terminal.printJson({ ...saga, records: Object.fromEntries(places) });
  else printSaga(session.terminal, saga, places);
}

/** Replies of participants with a database of their own are in their outboxes; one that cannot be reached leaves them without their facts. */
async function withForeignReplies(
  { terminal }: Session,
  config: Config,
  history: readonly SagaHistoryFacts[],
): Promise<SagaHistoryFacts[]> {
  const ids = history.flatMap(({ eventId, event }) => (eventId === null || event !== null ? [] : [eventId]));
  const found = new Map<EventId, SagaEvent>();
  for (const [name, database] of ids.length === 0 ? [] : databasesOf(config)) {
    if (name === 'main') continue;
    const pool = createPool(database, 'ferry sagas', { max: 1 });
    try {
      for (const [id, event] of await findEvents(pool, ids, database.RELAY_NAME)) found.set(id, event);
    } catch (error) {
      terminal.note(`the replies of ${name} are shown by their ids alone: ${describeError(error)}`);
    } finally {
      await pool.end();
    }
  }
  const eventOf = ({ eventId, event }: SagaHistoryFacts) =>
    event ?? (eventId === null ? null : found.get(eventId)) ?? null;
  return history.map((row) => ({ ...row, event: eventOf(row) }));
}

async function operate(
  session: Session,
  config: Config,
  pool: Pool,
  request: { action: OperatorAction; sagaId: string; reason: string },
): Promise<void> {
  const { action, sagaId, reason } = request;
  if (reason === '') throw new FerryError('INVALID_REQUEST', `\`./ferry sagas ${action}\` needs --reason`);
  const engine = new SagaEngine({
    sagas: [fulfilment],
    logger: createLogger(config, { role: 'cli' }),
    metrics: createMetrics(metrics.getMeter('ferry', FERRY_VERSION)),
  });
  const actor = { principal: `cli:${userInfo().username}`, requestId: null };
  const after = await transaction(pool, async (tx) => {
    await operateSaga(tx, engine, actor, request);
    return findSagaSummary(tx, sagaId);
  });
  if (after === null) throw new Error('a saga that was just operated is gone');
  if (session.json)
    return session.terminal.printJson({ id: sagaId, action, reason, state: after.state, step: after.step });
  const where = after.step === null ? '' : `, step ${after.step}`;
  session.terminal.print(
    `${action}: saga ${sagaId} is ${after.state}${where}${after.cancelling ? ', to be undone after it' : ''}`,
  );
}
