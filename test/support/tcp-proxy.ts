/**
 * A TCP proxy that breaks connections as networks do: cut, stalled, half open, slow. Postgres and the registry are simply reached through
 * it. Kafka tells its clients an address of its own, so for Kafka the proxy writes its own port over the broker's in what the broker says.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export interface ProxyTarget {
  readonly host: string;
  readonly port: number;
  /** For Kafka: the host that the broker advertises, exactly as it writes it (`127.0.0.1`, `localhost`). */
  readonly advertisedHost?: string;
}

/**
 * - pass: as if it were not there;
 * - stall: both sides stay connected and new ones are accepted, but not a byte moves (a full queue, a frozen host);
 * - half-open: the server's side is gone without the client being told; what the client sends is swallowed;
 * - refuse: every new connection is reset at once.
 */
export type ProxyMode = 'pass' | 'stall' | 'half-open' | 'refuse';

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  /** Once half open, always: only a new connection can be whole again. */
  abandoned: boolean;
}

export class TcpProxy {
  readonly #target: ProxyTarget;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #mode: ProxyMode = 'pass';
  #resumed = Promise.withResolvers<void>();
  /** Added to each chunk in each direction. */
  delayMs = 0;
  /** Bytes that reached the clients. */
  bytesToClients = 0;

  private constructor(target: ProxyTarget, server: Server) {
    this.#target = target;
    this.#server = server;
    server.on('connection', (client) => this.#accept(client));
  }

  /** Listens on a free port of 127.0.0.1. */
  static async start(target: ProxyTarget): Promise<TcpProxy> {
    const server = createServer({ noDelay: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TcpProxy(target, server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** The same URL, through the proxy. */
  through(url: string): string {
    const changed = new URL(url);
    changed.hostname = '127.0.0.1';
    changed.port = String(this.port);
    return changed.toString();
  }

  setMode(mode: ProxyMode): void {
    this.#mode = mode;
    if (mode === 'half-open') for (const pair of this.#pairs) abandon(pair);
    this.#resumed.resolve();
    this.#resumed = Promise.withResolvers<void>();
  }

  /** Resets every connection that is open now; new ones fare as the mode says. */
  cut(): void {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
  }

  async close(): Promise<void> {
    this.setMode('refuse');
    this.#server.close();
    this.cut();
    await once(this.#server, 'close');
  }

  #accept(client: Socket): void {
    if (this.#mode === 'refuse') {
      client.resetAndDestroy();
      return;
    }
    const server = dial({ host: this.#target.host, port: this.#target.port, noDelay: true });
    const pair: Pair = { client, server, abandoned: false };
    this.#pairs.add(pair);
    if (this.#mode === 'half-open') abandon(pair);
    client.once('close', () => {
      this.#pairs.delete(pair);
      server.destroy();
    });
    server.once('close', () => {
      if (!pair.abandoned) client.destroy();
    });
    for (const socket of [client, server]) socket.on('error', () => {}); // 'close' follows
    const advertised = advertisedAddress(this.#target);
    void this.#pump(pair, client, server, null);
    void this.#pump(pair, server, client, advertised === null ? null : new PortRewriter(advertised, this.port));
  }

  async #pump(pair: Pair, from: Socket, to: Socket, rewriter: PortRewriter | null): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        while (this.#mode === 'stall' && !from.destroyed) await this.#resumed.promise;
        if (this.delayMs > 0) await delay(this.delayMs);
        if (pair.abandoned) continue;
        const bytes = rewriter === null ? chunk : rewriter.rewrite(chunk);
        if (from === pair.server) this.bytesToClients += bytes.length;
        if (!to.write(bytes)) await Promise.race([once(to, 'drain'), once(to, 'close')]);
      }
      if (!pair.abandoned) to.end();
    } catch {
      // reset or destroyed: the sockets' own 'close' handlers see to the other side
    }
  }
}

function abandon(pair: Pair): void {
  pair.abandoned = true;
  pair.server.destroy();
}

interface AdvertisedAddress {
  readonly host: string;
  readonly port: number;
}

function advertisedAddress(target: ProxyTarget): AdvertisedAddress | null {
  return target.advertisedHost === undefined ? null : { host: target.advertisedHost, port: target.port };
}

/**
 * Kafka writes an address as the host's text followed by the port in four bytes, in Metadata and FindCoordinator answers of every version.
 * Only the port's value changes, so no length in the frame does. Works on whole frames (four bytes of length, then the answer): TCP may cut
 * an address in two, and a frame's end must never be held back.
 */
export class PortRewriter {
  readonly #from: Buffer;
  readonly #to: Buffer;
  #pending: Buffer[] = [];
  #pendingBytes = 0;

  constructor(advertised: AdvertisedAddress, port: number) {
    this.#from = addressBytes(advertised.host, advertised.port);
    this.#to = addressBytes(advertised.host, port);
  }

  /** The frames that `chunk` completes, rewritten; what is left of it waits for the next. */
  rewrite(chunk: Buffer): Buffer {
    this.#pending.push(chunk);
    this.#pendingBytes += chunk.length;
    const first = this.#pending[0] ?? chunk;
    if (first.length >= 4 && this.#pendingBytes < 4 + first.readInt32BE(0)) return Buffer.alloc(0);
    const bytes = Buffer.concat(this.#pending);
    let end = 0;
    while (end + 4 <= bytes.length && end + 4 + bytes.readInt32BE(end) <= bytes.length)
      end += 4 + bytes.readInt32BE(end);
    this.#pending = [bytes.subarray(end)];
    this.#pendingBytes = bytes.length - end;
    const frames = bytes.subarray(0, end);
    for (let at = frames.indexOf(this.#from); at >= 0; at = frames.indexOf(this.#from, at + this.#to.length)) {
      this.#to.copy(frames, at);
    }
    return frames;
  }
}

function addressBytes(host: string, port: number): Buffer {
  const bytes = Buffer.alloc(host.length + 4);
  bytes.write(host, 0, 'latin1');
  bytes.writeInt32BE(port, host.length);
  return bytes;
}
