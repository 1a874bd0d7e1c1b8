/**
 * The sockets of one kafkajs client, so that it can be cut off: its own `disconnect` waits for brokers that hang, for half a minute and more,
 * and meanwhile what it has begun (joining a group, say) goes on.
 */
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { ISocketFactory } from 'kafkajs';

const KEEPALIVE_DELAY_MS = 60_000;

export class Sockets {
  readonly #open = new Set<Socket>();
  #cut = false;

  /** For `new Kafka({ socketFactory })`; makes what kafkajs's own makes. */
  readonly factory: ISocketFactory = ({ host, port, ssl, onConnect }) => {
    const named = isIP(host) === 0 ? { servername: host } : {};
    const socket = ssl ? connectTls({ host, port, ...named, ...ssl }, onConnect) : connect({ host, port }, onConnect);
    socket.setKeepAlive(true, KEEPALIVE_DELAY_MS);
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    if (this.#cut) queueMicrotask(() => this.#cutOff(socket)); // when kafkajs listens
    return socket;
  };

  /** Ends all connections, and each that the client still tries to make. */
  cut(): void {
    this.#cut = true;
    for (const socket of this.#open) this.#cutOff(socket);
  }

  #cutOff(socket: Socket): void {
    socket.destroy(new Error('this Kafka client was given up'));
  }
}
