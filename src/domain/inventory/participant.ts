/** Inventory as a participant: its commands, and what it answers. */

import type { IssueStock, ReleaseStock, ReserveStock } from '../../events/generated/payloads.ts';
import type { Queryable } from '../../postgres/connection.ts';
import { isRefusedOnPurpose } from '../injected-refusal.ts';
import {
  type Answer,
  type BatchedCommand,
  defineParticipant,
  type Participant,
  type ParticipantParts,
} from '../participant.ts';
import { issueStock, releaseStock, reserveStock } from './commands.ts';
import { piecesOf } from './reservation.ts';
import { Warehouse } from './warehouse.ts';

export interface InventoryParts extends ParticipantParts {
  /** How long stock is set aside for an order that does not get on. */
  readonly reservationTtlMs: number;
  /** How many of a hundred orders are refused on purpose. */
  readonly faultPercent: number;
}

/** Its group is `<topic prefix>inventory`. */
export function inventoryParticipant(parts: InventoryParts): Participant {
  const { reservationTtlMs: ttlMs, faultPercent } = parts;
  return defineParticipant<Payload, Warehouse>(parts, {
    name: 'inventory',
    prepare: (commands, tx) => openWarehouse(commands, ttlMs, tx),
    finish: (warehouse, tx) => warehouse.save(tx),
    carryOuts: {
      'commerce.ReserveStock': async ({ payload: { orderId, lines } }, _tx, warehouse): Promise<Answer> => {
        const refuse = isRefusedOnPurpose(faultPercent, orderId, 'inventory');
        const result = reserveStock(warehouse, { orderId, lines, refuse });
        if (result.kind === 'refused') return refusal(orderId, result);
        const { reservation, duplicate } = result;
        const { changedAt: reservedAt, expiresAt } = reservation;
        const payload = { orderId, reservedUntil: expiresAt ?? reservedAt, duplicate, reservedAt };
        return { type: 'commerce.StockReserved', payload };
      },
      'commerce.ReleaseStock': async ({ payload: { orderId } }, _tx, warehouse): Promise<Answer> => {
        const result = releaseStock(warehouse, orderId);
        if (result.kind === 'refused') return refusal(orderId, result);
        const { reservation, pieces, duplicate } = result;
        return {
          type: 'commerce.StockReleased',
          payload: { orderId, pieces, duplicate, releasedAt: reservation.changedAt },
        };
      },
      'commerce.IssueStock': async ({ payload: { orderId } }, _tx, warehouse): Promise<Answer> => {
        const result = issueStock(warehouse, orderId);
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

type Payload = ReserveStock | ReleaseStock | IssueStock;

/** Stock is issued only to those who have a reservation; the others' commands leave one in any case. */
function openWarehouse(
  commands: ReadonlyArray<BatchedCommand<Payload>>,
  ttlMs: number,
  tx: Queryable,
): Promise<Warehouse> {
  const ordersOf = (isWanted: (type: string) => boolean) =>
    commands.filter(({ type }) => isWanted(type)).map(({ payload }) => payload.orderId);
  return Warehouse.open(tx, {
    orders: ordersOf((type) => type !== ISSUE_STOCK),
    knownOrders: ordersOf((type) => type === ISSUE_STOCK),
    skus: commands.flatMap(({ payload }) => ('lines' in payload ? payload.lines.map(({ sku }) => sku) : [])),
    ttlMs,
  });
}

const ISSUE_STOCK = 'commerce.IssueStock';

type Refusal = Extract<ReturnType<typeof reserveStock>, { kind: 'refused' }>;

function refusal(orderId: string, { reason, sku, duplicate, at }: Refusal): Answer {
  return { type: 'commerce.StockRefused', payload: { orderId, reason, sku, duplicate, refusedAt: at } };
}
