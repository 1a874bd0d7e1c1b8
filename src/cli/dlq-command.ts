/** `./ferry dlq`: what the relay and consumers have set aside, and how it goes on. */
import { userInfo } from 'node:os';
import { databasesOf } from '../config/databases.ts';
import type { OwnerDatabase } from '../deadletter/settlement.ts';
import { FerryError } from '../kernel/errors.ts';
import { listAllParkedKeys, type ParkedBy, type ParkedKeyFacts, releaseKeyOf } from '../ops/parked-keys.ts';
import { Pools } from '../postgres/pools.ts';
import { type LetterAction, type LetterOptions, runLetters } from './dlq-letters.ts';
import { requireAddress, type Session, sessionConfig } from './session.ts';
import { plainTable } from './terminal.ts';

export interface DlqOptions extends LetterOptions {
  readonly relay?: string;
  readonly discard?: boolean;
}

/** Throws INVALID_REQUEST naming what is missing, NOT_FOUND if the key is not parked or the letter is not there, CONFLICT. */
export async function runDlq(session: Session, options: DlqOptions, args: readonly string[]): Promise<void> {
  const [action, id] = args as [LetterAction | 'parked' | 'release', string | undefined];
  const config = sessionConfig(session);
  requireAddress(config, 'DATABASE_URL');
  const pools = new Pools({
    databases: databasesOf(config),
    applicationName: 'ferry dlq',
    settings: () => ({ max: 1 }),
  });
  const owners = () => [...pools.withRelays().values()];
  try {
    if (action === 'parked') printParked(session, await listAllParkedKeys(owners(), ownerOf(options)));
    else if (action === 'release') await release(session, owners(), options);
    else await runLetters(session, { config, pool: pools.of('main') }, options, [action, id]);
  } finally {
    await pools.end();
  }
}

async function release(session: Session, databases: readonly OwnerDatabase[], options: DlqOptions): Promise<void> {
  const { discard = false } = options;
  const owner = ownerOf(options);
  if (owner === null) throw new FerryError('INVALID_REQUEST', '`./ferry dlq release` needs --group or --relay');
  const request = {
    ...owner,
    topic: required(options, 'topic'),
    key: required(options, 'key'),
    reason: required(options, 'reason'),
    discard,
  };
  const actor = { principal: `cli:${userInfo().username}`, requestId: null };
  const { eventId } = await releaseKeyOf(databases, actor, request);
  if (session.json) return session.terminal.printJson({ ...request, eventId, requested: true });
  session.terminal.print(
    `asked for: the ${owner.group === null ? 'relay publishes' : 'consumer applies'} what waits of ${request.key} within seconds, ${discard ? 'without' : 'beginning with'} event ${eventId};`,
  );
  session.terminal.print(
    '`./ferry dlq parked` shows the key until that is done, or the event that it is parked behind now.',
  );
}

/** Null: of everybody. */
function ownerOf({ group = '', relay = '' }: DlqOptions): ParkedBy | null {
  if (group !== '' && relay !== '') throw new FerryError('INVALID_REQUEST', '--group and --relay exclude each other');
  if (group !== '') return { group, relay: null };
  return relay === '' ? null : { group: null, relay };
}

function required(options: DlqOptions, name: 'topic' | 'key' | 'reason'): string {
  const value = options[name];
  if (value !== undefined && value !== '') return value;
  throw new FerryError('INVALID_REQUEST', `\`./ferry dlq release\` needs --${name}`);
}

const HEAD = ['parked by', 'topic', 'key', 'events', 'behind event', 'error', 'parked at', 'release'];

function printParked({ json, terminal }: Session, keys: readonly ParkedKeyFacts[]): void {
  if (json) {
    terminal.printJson({ keys: keys.map((key) => ({ ...key, events: Number(key.events) })) });
    return;
  }
  const rows = keys.map((key) => [
    ...[
      key.group ?? `relay ${key.relay}`,
      key.topic,
      key.key,
      String(key.events),
      key.eventId,
      key.errorCode,
      key.parkedAt,
    ],
    key.releaseRequestedAt === null ? '' : 'asked for',
  ]);
  terminal.print(keys.length === 0 ? 'no key is parked' : plainTable(rows, HEAD));
}
