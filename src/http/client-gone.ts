/** Whether somebody still waits for an answer. */
import type { FastifyReply } from 'fastify';

/**
 * Fires when the reply's connection closes. It has fired already for a client that left before the handler began, such as during its
 * authentication: `close` is emitted once, and who listens afterwards would never hear of it.
 */
export function clientGone({ raw }: FastifyReply): AbortSignal {
  if (raw.destroyed) return AbortSignal.abort();
  const gone = new AbortController();
  raw.once('close', () => gone.abort());
  return gone.signal;
}
