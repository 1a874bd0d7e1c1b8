/** `./ferry replay`: publish rows of the outbox once more, follow it, stop it and let it go on. */
import { userInfo } from 'node:os';
import type { DatabaseName } from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import { topicRoutes } from '../events/routes.ts';
import { kafkaOptions } from '../kafka/client.ts';
import { groupsOfTopics } from '../kafka/topic-groups.ts';
import { sleep } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import {
  DEFAULT_EVENTS_PER_SECOND,
  dryRun,
  knownReplay,
  operateReplay,
  type ReplayFacts,
  type ReplayPlace,
  startReplay,
} from '../ops/replays.ts';
import { createPool, type Pool } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import type { Selection } from '../replay/selection.ts';
import { hasEnded, type ReplayAction, type ReplayState } from '../replay/states.ts';
import { listReplays, type ReplayRequest } from '../replay/store.ts';
import { createLogger } from '../telemetry/logger.ts';
import { EXIT } from './exit-codes.ts';
import { preparePreview, printReplay, progressOf, replayTable } from './replay-text.ts';
import { type CommonOptions, requireDatabase, type Session, sessionConfig } from './session.ts';

type ReplayCommand = 'start' | 'list' | 'show' | ReplayAction;

export interface ReplayOptions extends CommonOptions {
  /** Each has an outbox and a relay of its own. */
  readonly database: DatabaseName;
  readonly eventId?: readonly string[];
  readonly aggregateType?: string;
  readonly aggregateId?: string;
  readonly type?: string;
  readonly recordedFrom?: string;
  readonly recordedTo?: string;
  readonly lsnFrom?: string;
  readonly lsnTo?: string;
  readonly schemaVersion?: number;
  readonly topic?: string;
  readonly newIds?: boolean;
  readonly encodeWith?: number;
  readonly rate?: number;
  readonly dryRun?: boolean;
  readonly wait?: boolean;
  readonly state?: ReplayState;
  readonly limit: number;
  readonly reason?: string;
}

const REPLAY_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const EVENT_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const LSN = /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i;
/** Nobody's request waits for it, so a count may take its time. */
const DRY_RUN_TIMEOUT_MS = 600_000;
const WATCH_MS = 500;

/**
 * Resolves with the exit code: 1 where `start --wait` did not end in `completed`. Throws INVALID_REQUEST naming the option that is missing or
 * wrong, NOT_FOUND, CONFLICT if the replay's state does not allow the action.
 */
export async function runReplay(session: Session, options: ReplayOptions, args: readonly string[]): Promise<number> {
  const [command, id = ''] = args as [ReplayCommand, string | undefined];
  const config = requireDatabase(sessionConfig(session), options.database);
  if (command !== 'list' && command !== 'start' && !REPLAY_ID.test(id)) {
    throw new FerryError('INVALID_REQUEST', `\`./ferry replay ${command} <id>\` takes the id of a replay, a UUID`);
  }
  const pool = createPool(config, 'ferry replay', { max: 2, statementTimeoutMs: 120_000 });
  try {
    if (command === 'start') return await start(session, config, pool, options);
    if (command === 'list') await list(session, pool, options);
    else if (command === 'show') show(session, await knownReplay(pool, id));
    else await operate(session, pool, { id, action: command, reason: reasonOf(options, command) });
    return EXIT.fine;
  } finally {
    await pool.end();
  }
}

async function start(session: Session, config: Config, pool: Pool, options: ReplayOptions): Promise<number> {
  const place: ReplayPlace = {
    relay: config.RELAY_NAME,
    routes: topicRoutes(config),
    topicPrefix: config.TOPIC_PREFIX,
  };
  const request = { selection: selectionOf(options), topic: options.topic ?? null };
  if (options.dryRun === true) {
    const kafka = kafkaOptions(config, 'ferry-cli', createLogger({ ...config, LOG_LEVEL: 'silent' }, { role: 'cli' }));
    const groupsOf = (topics: readonly string[]) => groupsOfTopics(kafka, topics);
    const preview = await dryRun(pool, place, groupsOf, request, DRY_RUN_TIMEOUT_MS);
    if (session.json) session.terminal.printJson(preview);
    else session.terminal.print(preparePreview(preview));
    return EXIT.fine;
  }
  const replay: ReplayRequest = {
    ...request,
    newIds: options.newIds === true,
    schemaId: options.encodeWith ?? null,
    eventsPerSecond: options.rate ?? DEFAULT_EVENTS_PER_SECOND,
    reason: reasonOf(options, 'start'),
  };
  const id = await transaction(pool, (tx) => startReplay(tx, whoever(), place, replay));
  if (options.wait === true) return watch(session, pool, id);
  show(session, await knownReplay(pool, id));
  return EXIT.fine;
}

/** Shows how far it is until it has ended or waits for an operator. */
async function watch({ json, terminal }: Session, pool: Pool, id: string): Promise<number> {
  terminal.note(`replay ${id}`);
  const last = await terminal.step(`replay ${id}`, async (update) => {
    for (;;) {
      const replay = await knownReplay(pool, id);
      update(progressOf(replay));
      if (hasEnded(replay.state) || replay.state === 'paused') return replay;
      await sleep(WATCH_MS);
    }
  });
  if (json) terminal.printJson(last);
  else printReplay(terminal, last);
  return last.state === 'completed' ? EXIT.fine : EXIT.failedCheck;
}

async function list({ json, terminal }: Session, pool: Pool, { state, limit }: ReplayOptions): Promise<void> {
  const found = await listReplays(pool, { state: state ?? null, before: null, limit: limit + 1 });
  const replays = found.slice(0, limit);
  const more = found.length > limit;
  if (json) return terminal.printJson({ replays, more });
  terminal.print(replays.length === 0 ? 'no replay is like that' : replayTable(replays));
  if (more) terminal.note(`there are more: raise --limit (${limit})`);
}

function show({ json, terminal }: Session, replay: ReplayFacts): void {
  if (json) terminal.printJson(replay);
  else printReplay(terminal, replay);
}

async function operate(
  { json, terminal }: Session,
  pool: Pool,
  request: { id: string; action: ReplayAction; reason: string },
): Promise<void> {
  const after = await transaction(pool, async (tx) => {
    await operateReplay(tx, whoever(), request);
    return knownReplay(tx, request.id);
  });
  if (json) terminal.printJson(after);
  else terminal.print(`${request.action}: ${progressOf(after)}`);
}

function whoever() {
  return { principal: `cli:${userInfo().username}`, requestId: null };
}

function reasonOf({ reason = '' }: ReplayOptions, command: string): string {
  if (reason === '') throw new FerryError('INVALID_REQUEST', `\`./ferry replay ${command}\` needs --reason`);
  return reason;
}

function selectionOf(options: ReplayOptions): Selection {
  const eventIds = options.eventId ?? null;
  const wrong = eventIds?.find((id) => !EVENT_ID.test(id));
  if (wrong !== undefined) throw new FerryError('INVALID_REQUEST', `--event-id takes UUIDv7s, and ${wrong} is none`);
  for (const name of ['lsnFrom', 'lsnTo'] as const) {
    const lsn = options[name];
    if (lsn === undefined || LSN.test(lsn)) continue;
    throw new FerryError(
      'INVALID_REQUEST',
      `--${name === 'lsnFrom' ? 'lsn-from' : 'lsn-to'} takes an LSN such as 0/1A2B3C4`,
    );
  }
  return {
    eventIds,
    aggregateType: options.aggregateType ?? null,
    aggregateId: options.aggregateId ?? null,
    type: options.type ?? null,
    recordedFrom: options.recordedFrom ?? null,
    recordedTo: options.recordedTo ?? null,
    lsnFrom: options.lsnFrom ?? null,
    lsnTo: options.lsnTo ?? null,
    schemaId: options.schemaVersion ?? null,
  };
}
