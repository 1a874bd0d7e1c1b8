/**
 * What operators ask of the relay through the WAL: logical messages that take their place in the commit order. Any role may emit a message
 * under any prefix, so those that make the relay publish carry a MAC, of a key that applications cannot read.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

export const CONTROL_KINDS = ['release', 'replay'] as const;
/** `release`: publish what was set aside; `replay`: publish an event of the outbox once more. */
export type ControlKind = (typeof CONTROL_KINDS)[number];

/** Bytes of a relay's key, and of a MAC. */
export const CONTROL_KEY_BYTES = 32;

/** The prefix of the messages of this kind to the relay of this name; messages reach every slot of the database. */
export function controlPrefix(relay: string, kind: ControlKind): string {
  return `ferry:${relay}:${kind}`;
}

/** The message's content: HMAC-SHA256 over prefix, NUL and body, then the body in UTF-8. */
export function sealControl(key: Buffer, prefix: string, body: string): Buffer {
  const bytes = Buffer.from(body);
  return Buffer.concat([macOf(key, prefix, bytes), bytes]);
}

/** The body, or null if the content was not sealed with this key for this prefix. */
export function openControl(key: Buffer, prefix: string, content: Buffer): string | null {
  if (content.length < CONTROL_KEY_BYTES) return null;
  const body = content.subarray(CONTROL_KEY_BYTES);
  const mac = content.subarray(0, CONTROL_KEY_BYTES);
  return timingSafeEqual(mac, macOf(key, prefix, body)) ? body.toString() : null;
}

/** Postgres ends a prefix at its first NUL, so no two pairs of prefix and body are the same bytes. */
function macOf(key: Buffer, prefix: string, body: Buffer): Buffer {
  return createHmac('sha256', key).update(`${prefix}\0`).update(body).digest();
}
