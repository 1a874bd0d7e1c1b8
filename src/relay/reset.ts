/**
 * What an operator does after a refusal: begin a new epoch. The next start of the relay makes a new slot, reads which events Kafka holds,
 * publishes from the outbox whatever it does not, and goes on from there.
 */
import { FerryError } from '../kernel/errors.ts';
import type { Queryable } from '../postgres/connection.ts';
import { insertEpoch, readEpoch } from './ledger.ts';
import type { RelayNames } from './names.ts';
import { readSlot } from './slot.ts';

/**
 * Declares the next epoch; resolves with its number. Rejects with CONFLICT while a relay holds the slot: it would go on from a checkpoint
 * that is out of force. Repeating it before the relay was started changes nothing.
 */
export async function resetRelay(
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
