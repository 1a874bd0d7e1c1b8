/**
 * The payment provider of the example: an HTTP service in a process of its own that charges idempotently by key, and does wrong on request.
 *
 *     node src/embedded/payment-provider-server.ts --port 9400 --state charges.jsonl
 *
 *     POST /charges                 {amount, currency}, header Idempotency-Key   201 | 402 declined or cancelled
 *     POST /charges/:key/capture                                                 200 | 409 nothing is held
 *     POST /charges/:key/cancel                                                  200 {refunded}
 *     GET  /charges/:key, /charges                                               never faulty, for proofs
 *     PUT  /faults                  {failureRate, timeoutRate, lostAnswerRate, duplicateRate, declineRate}
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { parseArgs } from 'node:util';
import { type Charge, ChargeBook } from './payment-charges.ts';
import { changedFaults, drawFault, NO_FAULTS, type PaymentFaults } from './payment-faults.ts';

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

const MAX_BODY_BYTES = 10_000;
const AMOUNT = /^\d{1,12}\.\d\d$/;
const CURRENCY = /^[A-Z]{3}$/;
const MAX_KEY_LENGTH = 250;

/** The service, not listening. */
export function createPaymentProvider(book: ChargeBook): Server {
  let faults: PaymentFaults = NO_FAULTS;

  function answer(method: string, path: readonly string[], key: string | undefined, body: unknown): Answer {
    const [collection, named, action] = path;
    if (collection === 'faults' && method === 'PUT') {
      const changed = changedFaults(faults, body);
      if (changed === null) return problem(422, 'a fault is a known rate from 0 to 1');
      faults = changed;
      return { status: 200, body: faults };
    }
    if (collection !== 'charges') return problem(404, 'no such thing');
    if (method === 'GET') return named === undefined ? { status: 200, body: { charges: book.all() } } : found(named);
    if (method !== 'POST') return problem(405, 'no such method');
    if (named === undefined) return authorise(key, body);
    if (action === 'capture') return captured(book.capture(named));
    if (action === 'cancel') return cancelled(book.cancel(named));
    return problem(404, 'no such thing');
  }

  function found(key: string): Answer {
    const charge = book.find(key);
    return charge === undefined ? problem(404, 'no charge has this key') : { status: 200, body: charge };
  }

  function authorise(key: string | undefined, body: unknown): Answer {
    const { amount, currency } = (body ?? {}) as Partial<Record<string, unknown>>;
    if (key === undefined || key.length > MAX_KEY_LENGTH) return problem(400, 'Idempotency-Key is missing or too long');
    if (typeof amount !== 'string' || !AMOUNT.test(amount)) return problem(422, 'amount is a decimal with two places');
    if (typeof currency !== 'string' || !CURRENCY.test(currency)) return problem(422, 'currency is a code of ISO 4217');
    const charge = book.authorise(key, amount, currency, faults.declineRate);
    if (charge.status === 'declined' || charge.status === 'voided' || charge.status === 'refunded') {
      return { status: 402, body: charge };
    }
    if (charge.amount !== amount || charge.currency !== currency) return problem(422, 'the key has another amount');
    return { status: 201, body: charge };
  }

  return createServer(async (request, response) => {
    const method = request.method ?? '';
    const path = new URL(request.url ?? '/', 'http://provider').pathname.split('/').slice(1).map(decodeURIComponent);
    const body = await readJson(request).catch(() => undefined);
    const header = request.headers['idempotency-key'];
    const fault = method === 'POST' ? drawFault(faults, Math.random()) : null;
    if (fault === 'failure') return send(response, problem(503, 'out of order'));
    if (fault === 'timeout') return;
    const given = answer(method, path, typeof header === 'string' ? header : undefined, body);
    if (fault === 'lost-answer') request.socket.destroy();
    else if (fault === 'duplicate') send(response, problem(409, 'this request has come before'));
    else send(response, given);
  });
}

function captured(charge: Charge | undefined): Answer {
  return charge === undefined ? problem(409, 'nothing is held under this key') : { status: 200, body: charge };
}

function cancelled(charge: Charge): Answer {
  return { status: 200, body: charge };
}

function problem(status: number, detail: string): Answer {
  return { status, body: { detail } };
}

function send(response: ServerResponse, { status, body }: Answer): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new Error('the body is too large');
    chunks.push(chunk);
  }
  return chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString());
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { host: { type: 'string' }, port: { type: 'string' }, state: { type: 'string' } },
  });
  const book = new ChargeBook(values.state ?? null);
  const server = createPaymentProvider(book);
  server.listen({ port: Number(values.port ?? 0), host: values.host ?? '127.0.0.1' }, () => {
    const address = server.address();
    console.log(`listening on ${typeof address === 'object' ? address?.port : address}`);
  });
  // the channel closes when whoever started it is gone, who could stop it no more
  await Promise.race([once(process, 'SIGTERM'), once(process, 'disconnect')]);
  server.close(() => book.close());
  server.closeAllConnections();
  if (process.connected) process.disconnect();
}
