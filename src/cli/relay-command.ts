/** `./ferry relay reset`: what an operator does after the relay refused to go on. */
import type { DatabaseName } from '../config/databases.ts';
import { SerialClient } from '../postgres/serial-client.ts';
import { relayNames } from '../relay/names.ts';
import { resetRelay } from '../relay/reset.ts';
import { type CommonOptions, requireDatabase, type Session, sessionConfig } from './session.ts';

export interface RelayOptions extends CommonOptions {
  /** Whose relay. */
  readonly database: DatabaseName;
  readonly reason: string;
}

/** Throws CONFLICT while the relay runs, INVALID_REQUEST if there is no such database. */
export async function runRelayReset(session: Session, { database, reason }: RelayOptions): Promise<void> {
  const config = requireDatabase(sessionConfig(session), database);
  const names = relayNames(config);
  const client = await SerialClient.connect(config, 'ferry relay reset', () => {});
  try {
    const epoch = await resetRelay(client, names, reason);
    if (session.json) return session.terminal.printJson({ relay: names.name, epoch });
    session.terminal.print(`relay ${names.name} begins epoch ${epoch} at its next start: a new slot, then every event`);
    session.terminal.print(
      'of the outbox that Kafka does not hold yet, in order of insertion, then what is committed from now on.',
    );
  } finally {
    await client.end();
  }
}
