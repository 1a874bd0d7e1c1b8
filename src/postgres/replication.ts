/**
 * A logical replication connection. The only file that touches pg-logical-replication, around whose traps it works (design.md):
 * - its timer confirms what was received, not what was published: switched off, status updates are ours;
 * - `acknowledge(lsn)` reports lsn + 1: it is given `lsn − 1`;
 * - it has no pause: the socket behind it is paused. test/unit/postgres/replication.test.ts fails if its inside changes.
 * - its failed `subscribe()` leaves the connection open: stop() always runs.
 */
import type { Socket } from 'node:net';
import pg from 'pg';
import { LogicalReplicationService } from 'pg-logical-replication';
import { withDeadline } from '../kernel/deadline.ts';
import { formatLsn, type Lsn, parseLsn } from '../kernel/lsn.ts';
import { type ConnectionSettings, clientConfig, endClient, socketOf } from './connection.ts';

/** The server drops a walsender whose client is silent for this long; the slot is free again then. */
const WAL_SENDER_TIMEOUT = '10s';

/** A server that vanished in mid-start would be waited for without end: nothing else looks for signs of life yet. */
const START_TIMEOUT_MS = 30_000;

export interface ReplicationTarget {
  readonly slot: string;
  readonly publication: string;
}

export interface ReplicationHandlers {
  /** The payload of one XLogData message. Must not throw. */
  onData(payload: Buffer): void;
  onKeepalive(lsn: Lsn, replyRequested: boolean): void;
}

export interface SystemIdentity {
  readonly systemId: string;
  readonly timeline: number;
  readonly database: string;
  readonly serverLsn: Lsn;
  /** Contents of the timeline's history file; empty on timeline 1. */
  readonly history: string;
}

export class ReplicationConnection {
  readonly #service: LogicalReplicationService;
  readonly #socket: Socket;
  readonly identity: SystemIdentity;
  readonly processId: number;
  /** Settles with the reason when streaming ended by itself; never rejects. */
  readonly ended: Promise<Error>;

  private constructor(service: LogicalReplicationService, opened: Opened, ended: Promise<Error>) {
    this.#service = service;
    this.#socket = opened.socket;
    this.identity = opened.identity;
    this.processId = opened.processId;
    this.ended = ended;
  }

  /**
   * Connects, identifies the system and starts streaming at the slot's confirmed position with the socket paused: no data is handed out
   * before `resume()`. Rejects with the server's error (SQLSTATE in `code`).
   */
  static async open(
    settings: ConnectionSettings,
    applicationName: string,
    target: ReplicationTarget,
    handlers: ReplicationHandlers,
  ): Promise<ReplicationConnection> {
    const service = new LogicalReplicationService(replicationConfig(settings, applicationName), {
      acknowledge: { auto: false, timeoutSeconds: 0 },
    });
    const started = Promise.withResolvers<Opened>();
    service.on('data', (_lsn: string, payload: Buffer) => handlers.onData(payload));
    service.on('heartbeat', (lsn: string, _time: number, reply: boolean) => handlers.onKeepalive(parseLsn(lsn), reply));
    const plugin = new StreamingPlugin(target, started.resolve);
    const ended = endOf(service, plugin);
    ended.then(started.reject);
    try {
      const opened = await withDeadline('the start of replication', START_TIMEOUT_MS, started.promise);
      return new ReplicationConnection(service, opened, ended);
    } catch (error) {
      await endService(service, plugin.socket).catch(() => {});
      throw error;
    }
  }

  get bytesReceived(): number {
    return this.#socket.bytesRead;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Standby status update: everything up to `lsn` is durable elsewhere. Position zero cannot be sent and is not. */
  confirm(lsn: Lsn, requestReply: boolean): void {
    if (lsn <= 1n) return;
    this.#service.acknowledge(formatLsn((lsn - 1n) as Lsn), requestReply).catch(() => {}); // a dead socket shows in `ended`
  }

  /** Safe to call twice. */
  stop(): Promise<void> {
    return endService(this.#service, this.#socket);
  }
}

const END_TIMEOUT_MS = 1_000;

/** Ends the connection; a socket that does not end by itself is destroyed, so that a half-open one cannot hold the stop up. */
async function endService(service: LogicalReplicationService, socket: Socket | null): Promise<void> {
  const force = setTimeout(() => socket?.destroy(), END_TIMEOUT_MS);
  try {
    socket?.resume(); // a paused socket would never see the other side's end
    await service.destroy();
  } finally {
    clearTimeout(force);
  }
}

interface Opened {
  readonly socket: Socket;
  readonly identity: SystemIdentity;
  readonly processId: number;
}

function replicationConfig(settings: ConnectionSettings, applicationName: string): pg.ClientConfig {
  const config = clientConfig(settings, applicationName);
  return { ...config, options: `${config.options ?? ''} -c wal_sender_timeout=${WAL_SENDER_TIMEOUT}` };
}

function endOf(service: LogicalReplicationService, plugin: StreamingPlugin): Promise<Error> {
  return new Promise((resolve) => {
    service.on('error', resolve);
    service.subscribe(plugin, plugin.slot).then(
      () => resolve(new Error('the server ended the replication stream')),
      (error: unknown) => resolve(error instanceof Error ? error : new Error(String(error))),
    );
  });
}

/** Plays the library's plugin: what it asks the server before streaming, and no decoding (that is wal/'s). */
class StreamingPlugin {
  readonly name = 'pgoutput';
  readonly options = {};
  readonly slot: string;
  /** Known once the client is connected. */
  socket: Socket | null = null;
  readonly #publication: string;
  readonly #onStarted: (opened: Opened) => void;

  constructor(target: ReplicationTarget, onStarted: (opened: Opened) => void) {
    this.slot = target.slot;
    this.#publication = target.publication;
    this.#onStarted = onStarted;
  }

  parse(payload: Buffer): Buffer {
    return payload;
  }

  async start(client: pg.Client, slot: string, _lastLsn: string): Promise<unknown> {
    const socket = socketOf(client);
    this.socket = socket;
    const identity = await identifySystem(client);
    const inside = client as unknown as {
      connection: { once(event: string, listener: () => void): void };
      processID: number;
    };
    inside.connection.once('replicationStart', () => {
      socket.pause();
      this.#onStarted({ socket, identity, processId: inside.processID });
    });
    return client.query(
      `START_REPLICATION SLOT ${pg.escapeIdentifier(slot)} LOGICAL 0/0 ` +
        `(proto_version '1', publication_names ${pg.escapeLiteral(pg.escapeIdentifier(this.#publication))}, messages 'true')`,
    );
  }
}

async function identifySystem(client: pg.Client): Promise<SystemIdentity> {
  const { rows } = await client.query('IDENTIFY_SYSTEM');
  const row: { systemid: string; timeline: number; xlogpos: string; dbname: string } = rows[0];
  const timeline = Number(row.timeline);
  let history = '';
  if (timeline > 1) {
    const answer = await client.query(`TIMELINE_HISTORY ${timeline}`);
    history = String(answer.rows[0].content);
  }
  return { systemId: row.systemid, timeline, database: row.dbname, serverLsn: parseLsn(row.xlogpos), history };
}

export interface CreatedSlot {
  readonly consistentPoint: Lsn;
  /** pg_snapshot text: transactions visible in it were committed before the slot's first change. */
  readonly snapshot: string;
}

/**
 * Creates a logical slot and tells which transactions are older than it. Waits for transactions that are running, however long; the
 * signal ends the wait.
 */
export async function createSlot(
  settings: ConnectionSettings,
  slot: string,
  signal: AbortSignal,
): Promise<CreatedSlot> {
  signal.throwIfAborted(); // one that has fired tells nobody any more, and the wait would have no end
  const creator = new pg.Client({
    ...clientConfig(settings, 'ferry create slot'),
    replication: 'database',
  } as pg.ClientConfig);
  const reader = new pg.Client(clientConfig(settings, 'ferry read slot snapshot'));
  creator.on('error', () => {}); // shows in the query that is waiting
  reader.on('error', () => {});
  const abandon = () => socketOf(creator).destroy();
  signal.addEventListener('abort', abandon, { once: true });
  try {
    await Promise.all([creator.connect(), reader.connect()]);
    const created = await creator.query(
      `CREATE_REPLICATION_SLOT ${pg.escapeIdentifier(slot)} LOGICAL pgoutput (SNAPSHOT 'export')`,
    );
    const row: { consistent_point: string; snapshot_name: string } = created.rows[0];
    // The exported snapshot lives until the creating connection's next command.
    await reader.query('begin isolation level repeatable read');
    await reader.query(`set transaction snapshot ${pg.escapeLiteral(row.snapshot_name)}`);
    const { rows } = await reader.query('select pg_current_snapshot()::text as snapshot');
    await reader.query('commit');
    return { consistentPoint: parseLsn(row.consistent_point), snapshot: rows[0].snapshot };
  } finally {
    signal.removeEventListener('abort', abandon);
    await Promise.allSettled([endClient(creator), endClient(reader)]);
  }
}
