/** Ports for the embedded parts: the configured one, the one used last time, or a free one. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import type { VariableName } from '../config/variables.ts';
import { FerryError } from '../kernel/errors.ts';

/** Whether this process could listen on it now. */
export function isPortFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** Below those that systems give to outgoing connections: Linux from 32768 on, others from 49152 (RFC 6335) on. */
const FREE_PORTS = { first: 15_000, end: 30_000 } as const;
const FREE_PORT_ATTEMPTS = 100;

/**
 * A port that nobody listens on; another program may still take it before it is used, but no outgoing connection will: not now, nor while
 * the part that uses it is down, when one of its own clients could get it and be connected to itself. Throws PORT_TAKEN.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < FREE_PORT_ATTEMPTS; attempt++) {
    const port = randomInt(FREE_PORTS.first, FREE_PORTS.end);
    if (await isPortFree(port)) return port;
  }
  throw new FerryError('PORT_TAKEN', `no free port was found from ${FREE_PORTS.first} to ${FREE_PORTS.end - 1}`);
}

/** `configured` 0 means any: the port used before if it is free, else a new one. Throws PORT_TAKEN naming the variable. */
export async function choosePort(variable: VariableName, configured: number, before?: number): Promise<number> {
  if (configured !== 0) {
    if (await isPortFree(configured)) return configured;
    throw new FerryError('PORT_TAKEN', `port ${configured} is in use; ${variable} chooses another`, {
      details: { variable, port: configured },
    });
  }
  if (before !== undefined && (await isPortFree(before))) return before;
  return freePort();
}

/** The port in an address such as `127.0.0.1:9092` or a URL; undefined where there is none. */
export function portOf(address: string | undefined): number | undefined {
  const digits = /:(\d+)(?:\/|$)/.exec(address ?? '')?.[1];
  return digits === undefined ? undefined : Number(digits);
}
