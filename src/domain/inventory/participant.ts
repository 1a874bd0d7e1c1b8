/** Inventory as a participant: its commands, and what it answers. */

import type { IssueStock, ReleaseStock, ReserveStock } from '../../events/generated/payloads.ts';
import type { Queryable } from '../../postgres/connection.ts';
import { isRefusedOnPurpose } from '../injected-refusal.ts';
import { type Answer, defineParticipant, type Participant, type ParticipantParts } from '../participant.ts';
import { issueStock, releaseStock, reserveStock } from './commands.ts';
import { holdReservations, lockStock, readReservedSkus } from './repository.ts';
import { piecesOf } from './reservation.ts';

export interface InventoryParts extends ParticipantParts {
  /** How long stock is set aside for an order that does not get on. */
  readonly reservationTtlMs: number;
  /** How many of a hundred orders are refused on purpose. */
  readonly faultPercent: number;
}

/** Everybody wants the same articles: more workers would only wait for each other. */
const SETTINGS = { maxBatchEvents: 100, concurrency: 2 };

/** Its group is `<topic prefix>inventory`. */
export function inventoryParticipant(parts: InventoryParts): Participant {
  const { reservationTtlMs: ttlMs, faultPercent } = parts;
  return defineParticipant(parts, {
    name: 'inventory',
    settings: SETTINGS,
    holdRows,
    carryOuts: {
      'commerce.ReserveStock': async ({ payload: { orderId, lines } }, tx): Promise<Answer> => {
        const refuse = isRefusedOnPurpose(faultPercent, orderId, 'inventory');
        const result = await reserveStock(tx, { orderId, lines, ttlMs, refuse });
        if (result.kind === 'refused') return refusal(orderId, result);
        const { reservation, duplicate } = result;
        const { changedAt: reservedAt, expiresAt } = reservation;
        const payload = { orderId, reservedUntil: expiresAt ?? reservedAt, duplicate, reservedAt };
        return { type: 'commerce.StockReserved', payload };
      },
      'commerce.ReleaseStock': async ({ payload: { orderId } }, tx): Promise<Answer> => {
        const result = await releaseStock(tx, orderId);
        if (result.kind === 'refused') return refusal(orderId, result);
        const { reservation, pieces, duplicate } = result;
        return {
          type: 'commerce.StockReleased',
          payload: { orderId, pieces, duplicate, releasedAt: reservation.changedAt },
        };
      },
      'commerce.IssueStock': async ({ payload: { orderId } }, tx): Promise<Answer> => {
        const result = await issueStock(tx, orderId);
        if (result.kind === 'refused') return refusal(orderId, result);
        const { reservation, duplicate } = result;
        const pieces = piecesOf(reservation.lines);
        return {
          type: 'commerce.StockIssued',
          payload: { orderId, pieces, duplicate, issuedAt: reservation.changedAt },
        };
      },
    },
  });
}

/** Reservations before articles, as every command does. */
async function holdRows(
  payloads: ReadonlyArray<ReserveStock | ReleaseStock | IssueStock>,
  tx: Queryable,
): Promise<void> {
  const orderIds = payloads.map(({ orderId }) => orderId);
  await holdReservations(tx, orderIds);
  const wanted = payloads.flatMap((payload) => ('lines' in payload ? payload.lines.map(({ sku }) => sku) : []));
  await lockStock(tx, [...new Set([...wanted, ...(await readReservedSkus(tx, orderIds))])]);
}

type Refusal = Extract<Awaited<ReturnType<typeof reserveStock>>, { kind: 'refused' }>;

function refusal(orderId: string, { reason, sku, duplicate, at }: Refusal): Answer {
  return { type: 'commerce.StockRefused', payload: { orderId, reason, sku, duplicate, refusedAt: at } };
}
