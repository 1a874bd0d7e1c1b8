/** `./ferry up`: the embedded parts and the service for development, in the foreground or behind a supervisor process. */
import { databasesOf } from '../config/databases.ts';
import { loadConfig } from '../config/load.ts';
import { type ChildExit, exitText } from '../embedded/child.ts';
import type { EmbeddedPart } from '../embedded/part.ts';
import { choosePort, portOf } from '../embedded/ports.ts';
import { backoffMs, sleep } from '../kernel/deadline.ts';
import { describeError, FerryError } from '../kernel/errors.ts';
import { Scope } from '../kernel/scope.ts';
import { migrationSets } from '../postgres/migrate.ts';
import { type DatabaseLayout, ownDatabasesOf } from './commerce-stack.ts';
import { detach } from './detach.ts';
import { prepareParts, printAccess, stockExampleArticle, writeDevelopmentAccess } from './development.ts';
import { startEmbeddedParts } from './embedded-parts.ts';
import { untilRelaysAtWork } from './readiness.ts';
import { RoleProcess } from './role-process.ts';
import { type CommonOptions, type Environment, partsEnvironment, type Session } from './session.ts';
import { onStopSignal } from './signals.ts';

const RELAY_TIMEOUT_MS = 15_000;

export interface UpOptions extends CommonOptions {
  readonly detach?: boolean;
  readonly fresh?: boolean;
  /** Left out: as the home has it; a new one keeps all in one. */
  readonly databases?: DatabaseLayout;
}

export async function runUp(session: Session, options: UpOptions): Promise<void> {
  const owner = session.home.owner();
  if (owner !== undefined) throw alreadyRunning(session, owner.pid);
  if (options.detach === true) {
    const layout = options.databases === undefined ? [] : ['--databases', options.databases];
    await detach(session, [...(options.fresh === true ? ['--fresh'] : []), ...layout]);
    printAccess(session);
    return;
  }
  const stop = onStopSignal(() => session.home.killRecorded());
  const scope = new Scope();
  const ending = new AbortController();
  try {
    await start(session, options, scope, AbortSignal.any([stop.signal, ending.signal]));
    printAccess(session);
    process.send?.({ kind: 'ready' });
    await stop.requested;
    session.terminal.note('stopping (once more: at once)');
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    ending.abort(); // before anything is stopped: what ends from here on is not to be started again
    await scope.close();
    stop.release();
    if (process.connected) process.disconnect();
  }
}

function alreadyRunning({ home }: Session, pid: number): FerryError {
  const { httpUrl } = home.addresses();
  const where = httpUrl === undefined ? '' : `, ${httpUrl}`;
  return new FerryError('ALREADY_RUNNING', `${home.directory} is already running (process ${pid}${where})`);
}

/** Whatever was started is released by the scope, in reverse order, however far the start came. */
async function start(session: Session, options: UpOptions, scope: Scope, stopping: AbortSignal): Promise<void> {
  const { home, terminal } = session;
  await home.claim({ leftBehind: process.send !== undefined }); // who detaches it speaks to it
  scope.defer('the home', () => home.release());
  if (options.fresh === true) home.deleteData();
  const { HTTP_PORT } = loadConfig(session.environment);
  const modules = session.environment.FERRY_MODULES ?? 'commerce';
  const ownDatabases = ownDatabasesOf(layoutOf(session, options));
  const httpPort = await choosePort('HTTP_PORT', HTTP_PORT, portOf(home.addresses().httpUrl));
  const stack = await terminal.step('starting Postgres, Kafka and the schema registry', (update) =>
    startEmbeddedParts(
      session,
      { progress: update, ownDatabases, onDeath: (part, exit) => void revive(part, exit, stopping, terminal.note) },
      modules,
    ),
  );
  scope.defer('the embedded parts', () => stack.stop());
  stopping.throwIfAborted();
  const environment: Environment = {
    ...partsEnvironment(session),
    HTTP_PORT: String(httpPort),
    FERRY_MODULES: modules,
  };
  await terminal.step('migrating the database, pushing schemas', () => prepareParts(environment));
  if (migrationSets(modules).includes('commerce')) await stockExampleArticle(environment);
  stopping.throwIfAborted();
  const service = await terminal.step('starting the service', () =>
    RoleProcess.start({
      home,
      name: 'service',
      roles: environment.FERRY_ROLES || 'api,relay,ops,consumers',
      environment,
      onDeath: (exit) => terminal.note(`the service ended with ${exitText(exit)}; starting it again`),
    }),
  );
  scope.defer('the service', () => service.stop());
  const httpUrl = await service.ready();
  const databases = [...databasesOf(loadConfig(environment)).keys()];
  if (httpUrl !== null) await untilRelaysAtWork(httpUrl, databases, RELAY_TIMEOUT_MS, stopping);
  home.saveAddresses({ ...home.addresses(), ...(httpUrl === null ? {} : { httpUrl }) });
  await writeDevelopmentAccess(session, environment);
}

/** Data cannot be moved from one layout to the other by starting anew. Throws CONFLICT, or INVALID_REQUEST where Postgres is not this home's. */
function layoutOf({ home, environment }: Session, { databases }: UpOptions): DatabaseLayout {
  const { postgresUrl, ownDatabaseUrls } = home.addresses();
  const kept: DatabaseLayout = ownDatabaseUrls === undefined ? 'one' : 'apart';
  if (databases === undefined || databases === kept) return kept;
  if (environment.DATABASE_URL) {
    throw new FerryError(
      'INVALID_REQUEST',
      `--databases is for the embedded Postgres; set PAYMENT_DATABASE_URL and the like`,
    );
  }
  if (postgresUrl === undefined) return databases;
  const what = kept === 'one' ? 'everything in one database' : 'a database for each participant';
  throw new FerryError(
    'CONFLICT',
    `${home.directory} has ${what}; \`./ferry up --fresh --databases ${databases}\` begins anew`,
  );
}

/** Starts a part that died until it runs again. */
async function revive(
  part: EmbeddedPart,
  exit: ChildExit,
  stopping: AbortSignal,
  note: (line: string) => void,
): Promise<void> {
  note(`${part.name} ended with ${exitText(exit)}; starting it again`);
  for (let attempt = 0; !stopping.aborted; attempt++) {
    try {
      await part.start();
      return;
    } catch (error) {
      note(`${part.name} did not start: ${describeError(error)}`);
      await sleep(backoffMs(attempt, 500, 30_000), stopping);
    }
  }
}
