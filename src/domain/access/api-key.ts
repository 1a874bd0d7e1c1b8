/** API keys and what they may do. A key is shown once, when it is made; the database keeps its SHA-256 only. */
import { createHash, randomBytes } from 'node:crypto';
import type { Queryable } from '../../postgres/connection.ts';

/** Each role may do all that those before it may. */
export const ROLES = ['viewer', 'writer', 'operator', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** Whom a key stands for. */
export interface Principal {
  /** Id of the key, which may stand in logs and audit rows. */
  readonly id: string;
  readonly name: string;
  readonly role: Role;
}

export function roleCovers(held: Role, required: Role): boolean {
  return ROLES.indexOf(held) >= ROLES.indexOf(required);
}

/** 256 random bits under a prefix that secret scanners can find; so many that a plain hash of it is safe to keep. */
export function newApiKey(): string {
  return `ferry_${randomBytes(32).toString('base64url')}`;
}

export function hashApiKey(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** Admits a key, a fresh one if none is given, and returns it: it cannot be read again. Admitting one twice changes nothing. */
export async function createApiKey(
  db: Queryable,
  request: { readonly name: string; readonly role: Role },
  key = newApiKey(),
): Promise<string> {
  await db.query(
    'insert into ferry.api_key (name, role, key_hash) values ($1, $2, $3) on conflict (key_hash) do nothing',
    [request.name, request.role, hashApiKey(key)],
  );
  return key;
}

/** The principal of a key that is neither expired nor revoked; null otherwise. */
export async function findPrincipal(db: Queryable, keyHash: Buffer): Promise<Principal | null> {
  const { rows } = await db.query<{ id: string; name: string; role: Role }>(
    `select id, name, role from ferry.api_key
     where key_hash = $1 and revoked_at is null and (expires_at is null or expires_at > clock_timestamp())`,
    [keyHash],
  );
  return rows[0] ?? null;
}

export interface ListedKey extends Principal {
  readonly state: 'in force' | 'expired' | 'revoked';
}

/** All keys ever made, oldest first. */
export async function listApiKeys(db: Queryable): Promise<ListedKey[]> {
  const { rows } = await db.query<ListedKey & Record<string, unknown>>(
    `select id, name, role, case when revoked_at is not null then 'revoked'
                                 when expires_at <= clock_timestamp() then 'expired' else 'in force' end as state
       from ferry.api_key order by created_at`,
  );
  return rows;
}

/** False if no key in force has that id. */
export async function revokeApiKey(db: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await db.query(
    'update ferry.api_key set revoked_at = clock_timestamp() where id::text = $1 and revoked_at is null',
    [id],
  );
  return rowCount === 1;
}
