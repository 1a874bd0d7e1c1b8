/** `./ferry trace <event id>`: the way of one event through all the parts, on one screen. */
import { databasesOf } from '../config/databases.ts';
import { topicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import { isEventId } from '../kernel/event-id.ts';
import { type EventLineage, traceEvent } from '../ops/lineage.ts';
import { Pools } from '../postgres/pools.ts';
import { lineageText } from './lineage-text.ts';
import { recordSource } from './record-source.ts';
import { type CommonOptions, requireAddress, type Session, sessionConfig } from './session.ts';

/** Throws INVALID_REQUEST without an event id, NOT_FOUND if nothing knows of the event. */
export async function runTrace(session: Session, _options: CommonOptions, [id = '']: readonly string[]): Promise<void> {
  const { json, terminal } = session;
  if (!isEventId(id))
    throw new FerryError('INVALID_REQUEST', '`./ferry trace <id>` takes the id of an event, a UUIDv7');
  const config = sessionConfig(session);
  requireAddress(config, 'DATABASE_URL');
  const pools = new Pools({
    databases: databasesOf(config),
    applicationName: 'ferry trace',
    settings: () => ({ max: 1 }),
  });
  try {
    const databases = [...pools.withRelays()].map(([name, { pool, relay }]) => ({ name, db: pool, relay }));
    const sources = { databases, routes: topicRoutes(config), records: recordSource(config) };
    const lineage = await terminal.step(`following event ${id}`, () => traceEvent(sources, id));
    if (lineage === null) throw new FerryError('NOT_FOUND', `nothing is known of an event ${id}`);
    if (json) terminal.printJson(lineage satisfies EventLineage);
    else terminal.print(lineageText(lineage));
  } finally {
    await pools.end();
  }
}
