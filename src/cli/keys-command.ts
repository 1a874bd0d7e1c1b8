/** `./ferry keys`: API keys. A key is printed once, when it is made; the database keeps its hash. */
import { createApiKey, listApiKeys, type Role, revokeApiKey } from '../domain/access/api-key.ts';
import { FerryError } from '../kernel/errors.ts';
import { SerialClient } from '../postgres/serial-client.ts';
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
  const db = await SerialClient.connect(config, 'ferry keys', () => {});
  try {
    if (action === 'list') return await printKeys(session, db);
    if (subject === undefined) {
      const what = action === 'create' ? 'create <name>' : 'revoke <id>';
      throw new FerryError('INVALID_REQUEST', `\`./ferry keys ${what}\` takes one more word`);
    }
    if (action === 'create') return await printNewKey(session, db, { name: subject, role: options.role });
    if (!(await revokeApiKey(db, subject))) throw new FerryError('NOT_FOUND', `no key in force has the id ${subject}`);
    session.terminal.note(`revoked ${subject}; it is refused within five seconds`);
  } finally {
    await db.end();
  }
}

async function printNewKey(session: Session, db: SerialClient, request: { name: string; role: Role }): Promise<void> {
  const key = await createApiKey(db, request);
  if (session.json) return session.terminal.printJson({ ...request, key });
  session.terminal.note(`a key for ${request.name} with the role ${request.role}; it is not shown again`);
  session.terminal.print(key);
}

async function printKeys(session: Session, db: SerialClient): Promise<void> {
  const keys = await listApiKeys(db);
  if (session.json) return session.terminal.printJson({ keys });
  const rows = keys.map(({ id, name, role, state }) => [id, name, role, state]);
  session.terminal.print(keys.length === 0 ? 'no keys' : plainTable(rows));
}
