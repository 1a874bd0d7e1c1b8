/** `./ferry keys`: API keys. A key is printed once, when it is made; the database keeps its hash. */
import { userInfo } from 'node:os';
import {
  createApiKey,
  findPrincipal,
  hashApiKey,
  listApiKeys,
  type Role,
  revokeApiKey,
} from '../domain/access/api-key.ts';
import { recordOperation } from '../domain/audit.ts';
import { FerryError } from '../kernel/errors.ts';
import { createPool, type Pool, type Queryable } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import { type CommonOptions, requireAddress, type Session, sessionConfig } from './session.ts';
import { plainTable } from './terminal.ts';

export type KeyAction = 'create' | 'list' | 'revoke';

export interface KeysOptions extends CommonOptions {
  readonly role: Role;
}

/** `subject` is the new key's name, or the id of the one to revoke. Throws INVALID_REQUEST where it is missing, NOT_FOUND. */
export async function runKeys(session: Session, options: KeysOptions, args: readonly string[]): Promise<void> {
  const [action, subject] = args as [KeyAction, string | undefined];
  const config = sessionConfig(session);
  requireAddress(config, 'DATABASE_URL');
  const pool = createPool(config, 'ferry keys', { max: 1 });
  try {
    if (action === 'list') return await printKeys(session, pool);
    if (subject === undefined) {
      const what = action === 'create' ? 'create <name>' : 'revoke <id>';
      throw new FerryError('INVALID_REQUEST', `\`./ferry keys ${what}\` takes one more word`);
    }
    if (action === 'create') return await printNewKey(session, pool, { name: subject, role: options.role });
    await transaction(pool, (tx) => revoke(tx, subject));
    session.terminal.note(`revoked ${subject}; it is refused within five seconds`);
  } finally {
    await pool.end();
  }
}

async function revoke(tx: Queryable, id: string): Promise<void> {
  if (!(await revokeApiKey(tx, id))) throw new FerryError('NOT_FOUND', `no key in force has the id ${id}`);
  await record(tx, 'api-key.revoke', id);
}

function record(tx: Queryable, action: string, id: string): Promise<void> {
  const actor = { principal: `cli:${userInfo().username}`, requestId: null };
  return recordOperation(tx, actor, { action, subject: `api-key/${id}`, eventId: null });
}

async function printNewKey(session: Session, pool: Pool, request: { name: string; role: Role }): Promise<void> {
  const key = await transaction(pool, async (tx) => {
    const made = await createApiKey(tx, request);
    const principal = await findPrincipal(tx, hashApiKey(made));
    if (principal === null) throw new Error('a key that was just made is not there');
    await record(tx, 'api-key.create', principal.id);
    return made;
  });
  if (session.json) return session.terminal.printJson({ ...request, key });
  session.terminal.note(`a key for ${request.name} with the role ${request.role}; it is not shown again`);
  session.terminal.print(key);
}

async function printKeys(session: Session, db: Queryable): Promise<void> {
  const keys = await listApiKeys(db);
  if (session.json) return session.terminal.printJson({ keys });
  const rows = keys.map(({ id, name, role, state }) => [id, name, role, state]);
  session.terminal.print(keys.length === 0 ? 'no keys' : plainTable(rows));
}
