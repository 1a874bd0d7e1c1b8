/**
 * Server-sent events (WHATWG HTML, section 9.2): an answer that goes on, and that a client resumes with the last id that it saw.
 */
import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { FerryError } from '../kernel/errors.ts';
import { clientGone } from './client-gone.ts';

export const EVENT_STREAM = 'text/event-stream';

export interface ServerSentEvent {
  /** What the client brings back in Last-Event-ID; left out: it keeps the one before. */
  readonly id?: string;
  readonly event: string;
  /** Becomes one line of JSON. */
  readonly data: unknown;
}

/** How long a client waits before it comes back after its stream broke off. */
const RECONNECT_MS = 2_000;

/** How many streams are open at once, and that they are not too many. */
export class StreamLimit {
  readonly #max: number;
  #open = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /**
   * Takes a place for as long as the reply's connection lives, none for a client that has left already; the signal fires when the client is
   * gone. Throws OVERLOADED.
   */
  take(reply: FastifyReply): AbortSignal {
    const gone = clientGone(reply);
    if (gone.aborted) return gone;
    if (this.#open >= this.#max) throw new FerryError('OVERLOADED', `${this.#max} streams are open: that is the limit`);
    this.#open++;
    gone.addEventListener('abort', () => this.#open--, { once: true });
    return gone;
  }
}

/** Sends the events as they come, null as a heartbeat; the client is served at its own pace, and the answer ends with `events`. */
export function sendEvents(reply: FastifyReply, events: AsyncIterable<ServerSentEvent | null>): FastifyReply {
  return reply
    .header('content-type', `${EVENT_STREAM}; charset=utf-8`)
    .header('x-accel-buffering', 'no') // nginx would hold events back
    .header('connection', 'close') // a connection that outlives its stream would hold up the server's stop
    .send(Readable.from(frames(events), { objectMode: true, highWaterMark: 1 }));
}

async function* frames(events: AsyncIterable<ServerSentEvent | null>): AsyncGenerator<string> {
  yield `retry: ${RECONNECT_MS}\n\n`; // at once, so that the client knows that it is connected
  for await (const event of events) yield event === null ? ':\n\n' : frameOf(event);
}

function frameOf({ id, event, data }: ServerSentEvent): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
