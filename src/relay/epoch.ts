/**
 * An epoch is one life of a relay's slot. Its row is written before the slot exists and says, once it does, from where the slot reads
 * and which rows are older; the first checkpoint in Kafka follows, and only then is the epoch live. A crash anywhere between is
 * continued, never guessed about.
 */
import { FerryError } from '../kernel/errors.ts';
import type { ConnectionSettings, Queryable } from '../postgres/connection.ts';
import { createSlot } from '../postgres/replication.ts';
import type { Logger } from '../telemetry/logger.ts';
import { countForeignRows, type Epoch, type EpochOrigin, insertEpoch, readEpoch, recordOrigin } from './ledger.ts';
import { dropSlot, readRunningTransactions, readSlotOwner } from './slot.ts';

export interface EpochOptions {
  readonly settings: ConnectionSettings;
  readonly relay: string;
  readonly slot: string;
  /** The publication as it was found before the slot is made. */
  readonly publicationIdentity: string;
  readonly logger: Logger;
  /** Ends the wait for older transactions. */
  readonly signal: AbortSignal;
}

export type ReadyEpoch = Epoch & { readonly origin: EpochOrigin };

const REPORT_EVERY_MS = 5_000;

/** The relay's epoch with its slot made; makes both at the first start. Two relays that start at once take turns. */
export async function ensureEpoch(control: Queryable, options: EpochOptions): Promise<ReadyEpoch> {
  const existing = await readEpoch(control, options.relay);
  if (isReady(existing)) return existing;
  await control.query('select pg_advisory_lock(hashtextextended($1, 0))', [`ferry relay ${options.relay}`]);
  try {
    const epoch = await readEpoch(control, options.relay);
    if (isReady(epoch)) return epoch;
    await refuseForeignSlot(control, epoch, options);
    await refuseForeignRows(control);
    return await createEpoch(control, epoch?.epoch ?? 1, options);
  } finally {
    await control.query('select pg_advisory_unlock(hashtextextended($1, 0))', [`ferry relay ${options.relay}`]);
  }
}

function isReady(epoch: Epoch | null): epoch is ReadyEpoch {
  return epoch !== null && epoch.origin !== null;
}

/**
 * Slots are the server's, and Postgres lets any database's session drop them. One that another database reads from, or that was there
 * before this relay ever was, is somebody's place in the WAL.
 */
async function refuseForeignSlot(control: Queryable, epoch: Epoch | null, options: EpochOptions): Promise<void> {
  const { relay, slot } = options;
  const owner = await readSlotOwner(control, slot);
  if (owner === null || (owner.isOurs && epoch !== null)) return;
  const whose = owner.isOurs
    ? `exists already, and relay ${relay} never began here`
    : `belongs to ${owner.database === null ? 'a physical standby' : `database ${owner.database}`}`;
  throw new FerryError('RELAY_CONFIGURATION', `replication slot ${slot} ${whose}: choose another with RELAY_SLOT`);
}

/** The backfill would pass them over, and no slot of this server will send them: they would never be published. */
async function refuseForeignRows(control: Queryable): Promise<void> {
  const count = await countForeignRows(control);
  if (count === 0n) return;
  throw new FerryError(
    'RELAY_ROWS_FOREIGN',
    `${count} rows of the outbox carry transaction ids that this server has not given: they were copied from another one`,
  );
}

async function createEpoch(control: Queryable, epoch: number, options: EpochOptions): Promise<ReadyEpoch> {
  const { settings, relay, slot, logger, signal, publicationIdentity } = options;
  await insertEpoch(control, relay, epoch, slot, 'first start');
  await dropSlot(control, slot); // left by a start that died before it could note where its slot begins: nothing was read from it
  const report = setInterval(() => {
    readRunningTransactions(control).then(
      (waitingFor) =>
        logger.warn({ slot, waitingFor }, 'creating the slot waits for transactions that are older than it'),
      () => {},
    );
  }, REPORT_EVERY_MS);
  try {
    const origin = { ...(await createSlot(settings, slot, signal)), publication: publicationIdentity };
    await recordOrigin(control, relay, epoch, origin);
    logger.info({ slot, epoch }, 'replication slot created');
    return { epoch, state: 'creating', origin };
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === '53400') {
      throw new FerryError('RELAY_CONFIGURATION', 'all replication slots are in use: raise max_replication_slots', {
        cause,
      });
    }
    throw cause;
  } finally {
    clearInterval(report);
  }
}
