/**
 * What an operator does after a refusal: begin a new epoch. The next start of the relay makes a new slot, reads which events Kafka holds,
 * publishes from the outbox whatever it does not, and goes on from there.
 */
import { FerryError } from '../kernel/errors.ts';
import { withRetentionLock } from '../outbox/retention-lock.ts';
import type { Queryable } from '../postgres/connection.ts';
import { findDayBeingRetired, insertEpoch, readEpoch } from './ledger.ts';
import type { RelayNames } from './names.ts';
import { readSlot } from './slot.ts';

/**
 * Declares the next epoch; resolves with its number. Rejects with CONFLICT while a relay holds the slot: it would go on from a checkpoint
 * that is out of force. Also while a day is being taken out of the outbox, for the new epoch publishes what is in it. Repeating it before the
 * relay was started changes nothing.
 */
export function resetRelay(
  client: Queryable,
  names: Pick<RelayNames, 'name' | 'slot'>,
  reason: string,
): Promise<number> {
  return withRetentionLock(client, async () => {
    const day = await findDayBeingRetired(client);
    if (day === null) return declareEpoch(client, names, reason);
    throw new FerryError(
      'CONFLICT',
      `the day ${day} is being taken out of the outbox by a process that died: run \`./ferry retention\` first`,
    );
  });
}

async function declareEpoch(
  client: Queryable,
  { name, slot }: Pick<RelayNames, 'name' | 'slot'>,
  reason: string,
): Promise<number> {
  const holder = (await readSlot(client, slot))?.activePid ?? null;
  if (holder !== null) {
    throw new FerryError('CONFLICT', `relay ${name} is running (backend ${holder} holds slot ${slot}): stop it first`);
  }
  const current = await readEpoch(client, name);
  if (current !== null && current.origin === null) return current.epoch;
  const next = (current?.epoch ?? 0) + 1;
  await insertEpoch(client, name, next, slot, reason);
  return next;
}
