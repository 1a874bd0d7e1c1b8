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

export interface NewShipment {
  readonly orderId: string;
  readonly status: 'arranged' | 'refused' | 'cancelled';
  readonly refusal: ShipmentRefusal | null;
  /** Null where it was cancelled before it was arranged. */
  readonly customerId: string | null;
  readonly pieces: number | null;
}

/** Inserts an order's shipment unless there is one; null then. Waits for a transaction that is inserting the same one. */
export async function insertShipment(tx: Queryable, shipment: NewShipment): Promise<Shipment | null> {
  const { rows } = await tx.query<ShipmentRow>(
    `insert into shipping.shipments (order_id, shipment_id, status, refusal, customer_id, pieces)
     values ($1, $2, $3, $4, $5, $6) on conflict (order_id) do nothing returning ${COLUMNS}`,
    [shipment.orderId, v7(), shipment.status, shipment.refusal, shipment.customerId, shipment.pieces],
  );
  return rows[0] === undefined ? null : shipmentOf(rows[0]);
}

/** Holds the shipment until the transaction ends; null if there is none. */
export async function lockShipment(tx: Queryable, orderId: string): Promise<Shipment | null> {
  const { rows } = await tx.query<ShipmentRow>(
    `select ${COLUMNS} from shipping.shipments where order_id = $1 for update`,
    [orderId],
  );
  return rows[0] === undefined ? null : shipmentOf(rows[0]);
}

/** Resolves with the shipment as it is kept. */
export async function updateShipment(
  tx: Queryable,
  orderId: string,
  change: { readonly status: ShipmentStatus; readonly refusal: ShipmentRefusal | null },
): Promise<Shipment> {
  const { rows } = await tx.query<ShipmentRow>(
    `update shipping.shipments set status = $2, refusal = $3, changed_at = clock_timestamp(),
            handed_over_at = case when $2 = 'handed-over' then clock_timestamp() end
     where order_id = $1 returning ${COLUMNS}`,
    [orderId, change.status, change.refusal],
  );
  if (rows[0] === undefined) throw new Error(`the shipment of ${orderId} vanished`);
  return shipmentOf(rows[0]);
}
