/** The statements of the shipping module: one a function. */
import { v7 } from 'uuid';
import type { Queryable } from '../../postgres/connection.ts';
import type { Shipment, ShipmentRefusal, ShipmentStatus } from './shipment.ts';

interface ShipmentRow {
  order_id: string;
  shipment_id: string;
  status: ShipmentStatus;
  refusal: ShipmentRefusal | null;
  handed_over_at: string | null;
  changed_at: string;
}

const COLUMNS = 'order_id, shipment_id, status, refusal, handed_over_at, changed_at';

function shipmentOf(row: ShipmentRow): Shipment {
  return {
    orderId: row.order_id,
    id: row.shipment_id,
    status: row.status,
    refusal: row.refusal,
    handedOverAt: row.handed_over_at,
    changedAt: row.changed_at,
  };
}

/**
 * Inserts shipments that are cancelled for orders that have none; resolves with those. Waits for a transaction that is inserting the same
 * one. All insert them in the order of their orders, so that no two wait for each other.
 */
export async function insertCancelled(tx: Queryable, orderIds: readonly string[]): Promise<Shipment[]> {
  const { rows } = await tx.query<ShipmentRow>(
    `insert into shipping.shipments (order_id, shipment_id, status)
     select order_id, shipment_id, 'cancelled' from unnest($1::uuid[], $2::uuid[]) as given (order_id, shipment_id)
     order by order_id on conflict (order_id) do nothing returning ${COLUMNS}`,
    [orderIds, orderIds.map(() => v7())],
  );
  return rows.map(shipmentOf);
}

/** Holds the orders' shipments until the transaction ends, in the order of their orders. */
export async function lockShipments(tx: Queryable, orderIds: readonly string[]): Promise<Shipment[]> {
  const { rows } = await tx.query<ShipmentRow>(
    `select ${COLUMNS} from shipping.shipments where order_id = any ($1::uuid[]) order by order_id for update`,
    [orderIds],
  );
  return rows.map(shipmentOf);
}

export interface ShipmentChange extends Shipment {
  /** Null: as before. */
  readonly parcels: { readonly customerId: string; readonly pieces: number } | null;
}

/** Writes shipments that are held. */
export async function updateShipments(tx: Queryable, changes: readonly ShipmentChange[]): Promise<void> {
  await tx.query(
    `update shipping.shipments s
     set status = given.status, refusal = given.refusal, handed_over_at = given.handed_over_at, changed_at = given.changed_at,
         customer_id = coalesce(given.customer_id, s.customer_id), pieces = coalesce(given.pieces, s.pieces)
     from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::int[])
       as given (order_id, status, refusal, handed_over_at, changed_at, customer_id, pieces)
     where s.order_id = given.order_id`,
    [
      changes.map(({ orderId }) => orderId),
      changes.map(({ status }) => status),
      changes.map(({ refusal }) => refusal),
      changes.map(({ handedOverAt }) => handedOverAt),
      changes.map(({ changedAt }) => changedAt),
      changes.map(({ parcels }) => parcels?.customerId ?? null),
      changes.map(({ parcels }) => parcels?.pieces ?? null),
    ],
  );
}
