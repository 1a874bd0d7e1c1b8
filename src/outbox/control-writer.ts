/** Writing control messages into the WAL: in the caller's transaction, so that they come in the commit order, or not at all. */
import { randomBytes } from 'node:crypto';
import { CONTROL_KEY_BYTES, type ControlKind, controlPrefix, sealControl } from '../events/control-message.ts';
import type { Queryable } from '../postgres/connection.ts';

/**
 * Asks the relay of that name for something, in the order of `bodies`; it learns of it when the transaction is committed. Rejects as the
 * driver does: the role needs to read and, the first time, to make the relay's key.
 */
export async function emitControls(
  tx: Queryable,
  relay: string,
  kind: ControlKind,
  bodies: readonly string[],
): Promise<void> {
  if (bodies.length === 0) return;
  const key = await controlKey(tx, relay);
  const prefix = controlPrefix(relay, kind);
  await tx.query('select pg_logical_emit_message(true, $1, content) from unnest($2::bytea[]) as given (content)', [
    prefix,
    bodies.map((body) => sealControl(key, prefix, body)),
  ]);
}

/** The relay's key; made by whoever asks first. */
export async function controlKey(db: Queryable, relay: string): Promise<Buffer> {
  const existing = await readKey(db, relay);
  if (existing !== null) return existing;
  await db.query('insert into ferry.relay_key (relay, key) values ($1, $2) on conflict (relay) do nothing', [
    relay,
    randomBytes(CONTROL_KEY_BYTES),
  ]);
  const made = await readKey(db, relay);
  if (made === null) throw new Error(`the key of relay ${relay} vanished`);
  return made;
}

async function readKey(db: Queryable, relay: string): Promise<Buffer | null> {
  const { rows } = await db.query<{ key: Buffer }>('select key from ferry.relay_key where relay = $1', [relay]);
  return rows[0]?.key ?? null;
}
