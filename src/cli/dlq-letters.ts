/** `./ferry dlq list | causes | show | retry | edit | discard`: the dead-letter store at the command line. */
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import type { Config } from '../config/variables.ts';
import { PayloadViews } from '../deadletter/payload-views.ts';
import type { DeadLetterState } from '../deadletter/states.ts';
import { coerceError, FerryError } from '../kernel/errors.ts';
import { parseExactJson, stringifyExactJson } from '../kernel/exact-json.ts';
import {
  auditDisclosure,
  discardLetter,
  editAndRetryLetter,
  type PayloadTools,
  retryLetter,
  retryLetters,
} from '../ops/dead-letter-actions.ts';
import { readLetterFor } from '../ops/dead-letter-view.ts';
import { findDeadLetterSummary, listCauses, listDeadLetters } from '../ops/dead-letters.ts';
import type { Pool, Queryable } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import { createDecoder } from '../registry/decoder.ts';
import { createEncoder } from '../registry/encoder.ts';
import { createRegistryClient } from '../registry/registry-client.ts';
import { SchemaStore } from '../registry/schema-store.ts';
import { printCauses, printLetter, printLetters } from './dlq-text.ts';
import { type CommonOptions, requireAddress, type Session } from './session.ts';

export const LETTER_ACTIONS = ['list', 'causes', 'show', 'retry', 'edit', 'discard'] as const;
export type LetterAction = (typeof LETTER_ACTIONS)[number];

export interface LetterOptions extends CommonOptions {
  readonly type?: string;
  readonly code?: string;
  readonly topic?: string;
  readonly key?: string;
  readonly group?: string;
  readonly state?: DeadLetterState;
  readonly failedAfter?: string;
  readonly failedBefore?: string;
  readonly limit: number;
  readonly whole?: boolean;
  readonly payload?: string;
  readonly reason?: string;
}

const LETTER_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const actor = () => ({ principal: `cli:${userInfo().username}`, requestId: null });

/** Throws INVALID_REQUEST naming the word or option that is missing or wrong, NOT_FOUND, CONFLICT if the letter's state does not allow it. */
export async function runLetters(
  session: Session,
  { config, pool }: { config: Config; pool: Pool },
  options: LetterOptions,
  [action, id]: readonly [LetterAction, string | undefined],
): Promise<void> {
  switch (action) {
    case 'list':
      return list(session, pool, options);
    case 'causes':
      return printCauses(session, await listCauses(pool, { ...filterOf(options), state: options.state ?? 'open' }));
    case 'show':
      return show(session, pool, config, options, letterId(action, id));
    case 'retry':
      if (id === undefined) return retryMany(session, pool, options);
      return decide(session, pool, action, id, options, retryLetter);
    case 'discard':
      return decide(session, pool, action, id, options, discardLetter);
    case 'edit': {
      const payload = payloadOf(options);
      const tools = payloadTools(config);
      return decide(session, pool, action, id, options, (tx, by, decision) =>
        editAndRetryLetter(tx, by, { ...decision, payload }, tools),
      );
    }
  }
}

async function list(session: Session, pool: Pool, options: LetterOptions): Promise<void> {
  const { limit, state = null } = options;
  const found = await listDeadLetters(pool, { ...filterOf(options), state, before: null, limit: limit + 1 });
  printLetters(session, found.slice(0, limit), found.length > limit);
}

async function show(session: Session, pool: Pool, config: Config, options: LetterOptions, id: string): Promise<void> {
  const { whole = false } = options;
  if (whole) {
    const reason = required(options, 'show --whole');
    await transaction(pool, (tx) => auditDisclosure(tx, actor(), { id, reason }));
  }
  const { contents } = await readLetterFor(pool, payloadTools(config).views, id, whole);
  if (!session.json) return printLetter(session.terminal, contents);
  const { value, keyBytes: _, ...letter } = contents;
  const raw = whole ? { value: value?.toString('base64') ?? null } : {};
  session.terminal.print(stringifyExactJson({ ...letter, offset: Number(letter.offset), ...raw }));
}

async function retryMany(session: Session, pool: Pool, options: LetterOptions): Promise<void> {
  const reason = required(options, 'retry');
  const { state, ...filter } = { ...filterOf(options), state: options.state };
  if (state !== undefined && state !== 'open') {
    throw new FerryError('INVALID_REQUEST', 'only open dead letters can be retried: leave --state out');
  }
  if (Object.values(filter).every((value) => value === null)) {
    const choice = '--type, --code, --topic, --key, --group, --failed-after, --failed-before';
    throw new FerryError('INVALID_REQUEST', `\`./ferry dlq retry\` takes an id, or some of ${choice}`);
  }
  const request = { filter, limit: options.limit, reason };
  const done = await transaction(pool, (tx) => retryLetters(tx, actor(), request));
  if (session.json) return session.terminal.printJson(done);
  session.terminal.print(
    `${done.retried} are taken up once more: \`./ferry dlq list --state replaying\` shows which still are`,
  );
  if (done.more) session.terminal.note('there are more: repeat it');
}

async function decide(
  session: Session,
  pool: Pool,
  action: LetterAction,
  given: string | undefined,
  options: LetterOptions,
  work: (tx: Queryable, by: ReturnType<typeof actor>, decision: { id: string; reason: string }) => Promise<void>,
): Promise<void> {
  const id = letterId(action, given);
  const reason = required(options, action);
  const letter = await transaction(pool, async (tx) => {
    await work(tx, actor(), { id, reason });
    return findDeadLetterSummary(tx, id);
  });
  if (session.json) return session.terminal.printJson({ id, action, reason, state: letter.state });
  const owner = letter.group === null ? 'the relay' : `group ${letter.group}`;
  const next = letter.state === 'replaying' ? `; \`./ferry dlq show ${id}\` tells what became of it` : '';
  session.terminal.print(`${action}: dead letter ${id} of ${owner} is ${letter.state}${next}`);
}

function letterId(action: LetterAction, id: string | undefined): string {
  if (id !== undefined && LETTER_ID.test(id)) return id;
  throw new FerryError('INVALID_REQUEST', `\`./ferry dlq ${action} <id>\` takes the id of a dead letter, a UUID`);
}

function required({ reason }: LetterOptions, action: string): string {
  if (reason !== undefined && reason !== '') return reason;
  throw new FerryError('INVALID_REQUEST', `\`./ferry dlq ${action}\` needs --reason`);
}

/** JSON, or `@` and the path of a file with it. */
function payloadOf({ payload }: LetterOptions): unknown {
  if (payload === undefined) {
    throw new FerryError('INVALID_REQUEST', '`./ferry dlq edit` needs --payload, as JSON or as @file');
  }
  try {
    return parseExactJson(payload.startsWith('@') ? readFileSync(payload.slice(1), 'utf8') : payload);
  } catch (thrown) {
    const cause = coerceError(thrown);
    throw new FerryError('INVALID_REQUEST', '--payload is no JSON, and no file that holds it', { cause });
  }
}

function payloadTools(config: Config): PayloadTools {
  const client = createRegistryClient({ url: requireAddress(config, 'SCHEMA_REGISTRY_URL') });
  const store = new SchemaStore(client);
  const naming = config.SUBJECT_NAMING;
  return {
    views: new PayloadViews({ store, decoder: createDecoder({ store }), naming }),
    encoder: createEncoder({ store, naming, maxEventBytes: config.MAX_EVENT_BYTES }),
  };
}

function filterOf({ type, code, topic, key, group, failedAfter, failedBefore }: LetterOptions) {
  return {
    ...{ type: type ?? null, code: code ?? null, topic: topic ?? null, key: key ?? null, group: group ?? null },
    ...{ failedAfter: failedAfter ?? null, failedBefore: failedBefore ?? null },
  };
}
