/** Ports for the embedded parts: the configured one, the one used last time, or a free one. */
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

/** A port that nobody listens on; another program may still take it before it is used. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ port: 0, host: '127.0.0.1' }, () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
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
