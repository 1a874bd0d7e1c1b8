/**
 * A server that speaks just enough of Postgres's protocol to play what a real one does rarely: answering late, never closing, sending data in
 * awkward pieces. Source of the messages: Postgres documentation, "Message Formats" and "Streaming Replication Protocol".
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { ConnectionSettings } from '../../src/postgres/connection.ts';
import { bytes, int16, int32, int64 } from './bytes.ts';

export const BACKEND_PID = 4_711;

export type OnQuery = (text: string, session: PostgresSession) => void | Promise<void>;

export class ScriptedPostgres {
  readonly sessions: PostgresSession[] = [];
  readonly settings: ConnectionSettings;
  readonly #server: Server;

  private constructor(server: Server, settings: ConnectionSettings) {
    this.#server = server;
    this.settings = settings;
  }

  /** With `vanishes` it never closes its side of a connection, as a host that is gone does not. */
  static async start(onQuery: OnQuery, options: { vanishes?: boolean } = {}): Promise<ScriptedPostgres> {
    const server = createServer({ allowHalfOpen: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    const settings = { DATABASE_URL: `postgres://u:p@127.0.0.1:${port}/d`, POSTGRES_TLS: 'off' } as const;
    const started = new ScriptedPostgres(server, settings);
    server.on('connection', (socket) => {
      if (options.vanishes !== true) socket.once('end', () => socket.end());
      started.sessions.push(new PostgresSession(socket, onQuery));
    });
    return started;
  }

  async close(): Promise<void> {
    for (const { socket } of this.sessions) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

/** One connection, from the server's side. */
export class PostgresSession {
  readonly socket: Socket;
  /** What the client wanted at its start: user, options, replication, … */
  parameters: Readonly<Record<string, string>> = {};
  /** Contents of the CopyData messages that the client sent. */
  readonly copied: Buffer[] = [];
  /** Resolves when the client has closed its side or broken the connection. */
  readonly closed: Promise<void>;
  readonly #onQuery: OnQuery;
  #unread = Buffer.alloc(0);
  #started = false;

  constructor(socket: Socket, onQuery: OnQuery) {
    this.socket = socket;
    this.#onQuery = onQuery;
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      socket.once('end', resolve);
      socket.once('close', () => resolve());
    });
    socket.on('data', (chunk) => {
      this.#unread = Buffer.concat([this.#unread, chunk]);
      while (this.#take());
    });
  }

  answer(columns: readonly string[], ...rows: ReadonlyArray<ReadonlyArray<string | null>>): void {
    const described = columns.map((name) =>
      bytes(cstring(name), int32(0), int16(0), int32(25), int16(-1), int32(-1), int16(0)),
    );
    const data = rows.map((row) => frame('D', int16(row.length), ...row.map(field)));
    this.socket.write(bytes(frame('T', int16(columns.length), ...described), ...data, complete(), READY));
  }

  fail(sqlstate: string, message = 'scripted'): void {
    const fields = [`SERROR\0`, `C${sqlstate}\0`, `M${message}\0`, '\0'].map((text) => Buffer.from(text));
    this.socket.write(bytes(frame('E', ...fields), READY));
  }

  /** CopyBothResponse, after which only CopyData goes both ways; `together` comes in the same piece. */
  startCopy(...together: readonly Buffer[]): void {
    this.socket.write(bytes(frame('W', Buffer.from([0]), int16(0)), ...together));
  }

  #take(): boolean {
    const header = this.#started ? 1 : 0; // the first message has no letter
    if (this.#unread.length < header + 4) return false;
    const length = this.#unread.readInt32BE(header);
    if (this.#unread.length < header + length) return false;
    const letter = this.#started ? String.fromCharCode(this.#unread[0] ?? 0) : 'start';
    const content = this.#unread.subarray(header + 4, header + length);
    this.#unread = this.#unread.subarray(header + length);
    this.#handle(letter, content);
    return true;
  }

  #handle(letter: string, content: Buffer): void {
    if (letter === 'start') {
      this.#started = true;
      const words = content.toString('utf8', 4).split('\0');
      this.parameters = Object.fromEntries(
        words.flatMap((word, i) => (i % 2 === 0 ? [[word, words[i + 1] ?? '']] : [])),
      );
      this.socket.write(bytes(frame('R', int32(0)), frame('K', int32(BACKEND_PID), int32(1)), READY));
    } else if (letter === 'Q') {
      this.#onQuery(content.toString('utf8', 0, content.length - 1), this);
    } else if (letter === 'd') {
      this.copied.push(Buffer.from(content));
    }
  }
}

/** XLogData, as it stands in a CopyData message. */
export function xlogData(lsn: bigint, payload: Buffer): Buffer {
  return frame('d', Buffer.from('w'), int64(lsn), int64(lsn), int64(0n), payload);
}

export function keepalive(lsn: bigint, replyRequested: boolean): Buffer {
  return frame('d', Buffer.from('k'), int64(lsn), int64(0n), Buffer.from([replyRequested ? 1 : 0]));
}

const READY = frame('Z', Buffer.from('I'));

function complete(): Buffer {
  return frame('C', cstring('SELECT 1'));
}

function frame(letter: string, ...parts: readonly Buffer[]): Buffer {
  const content = bytes(...parts);
  return bytes(Buffer.from(letter), int32(content.length + 4), content);
}

function field(value: string | null): Buffer {
  return value === null ? int32(-1) : bytes(int32(Buffer.byteLength(value)), Buffer.from(value));
}

function cstring(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}
