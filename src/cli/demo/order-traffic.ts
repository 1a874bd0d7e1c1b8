/**
 * Clients: several at a time place orders over HTTP as an application would, with idempotency keys and retries; for the demo also with
 * cancellations, articles that run out, and requests that the rules of the business refuse.
 */
import { randomUUID } from 'node:crypto';
import { request } from 'undici';
import { backoffMs, sleep } from '../../kernel/deadline.ts';
import { FerryError } from '../../kernel/errors.ts';

export interface TrafficOptions {
  readonly url: string;
  readonly key: string;
  readonly orders: number;
  readonly clients: number;
  /** Every order can be fulfilled, and nobody changes their mind. Default: a mixture of all that may happen. */
  readonly onlyGood?: boolean;
  /** Orders a second; left out: as fast as the clients can. */
  readonly rate?: number;
  readonly signal: AbortSignal;
  /** Hears how many orders have been decided so far. */
  readonly onProgress: (decided: number) => void;
}

export interface TrafficResult {
  requested: number;
  accepted: number;
  refused: number;
  cancelled: number;
  /** Cancellations that came when the order was on its way already. */
  tooLate: number;
  /** Requests sent once more with the same key that got the first answer again. */
  replayedKeys: number;
  /** Event ids of accepted orders, in the order of their acceptance. */
  readonly placedEvents: Array<{ readonly orderId: string; readonly eventId: string; readonly idempotencyKey: string }>;
}

const CUSTOMERS = 24;
const CREDIT_LIMIT = '10000000.00';
/** One customer has nearly no credit: the demo's business refusals. */
const POOR_CUSTOMER = 'customer-poor';
const POOR_CREDIT_LIMIT = '10.00';
const EVERY = { refused: 25, repeated: 20, cancelled: 10 } as const;
/** More than any order wants of an article, but of the first one, which runs out. */
const PIECES_PER_ORDER = 5;
const SCARCE_SHARE = 4;
const MAX_ATTEMPTS = 100; // an API that was killed is back within seconds; within a minute where others use the machine too
const REQUEST_TIMEOUT_MS = 10_000;
const ARTICLES = ['TEA-GREEN', 'TEA-BLACK', 'COFFEE-1KG', 'MUG-BLUE', 'KETTLE', 'FILTER-100', 'SUGAR-500G', 'SPOON'];

/** Makes the customers, then places the orders. Throws PART_UNREACHABLE when the API stops answering, or answers what it must not. */
export async function placeOrders(options: TrafficOptions): Promise<TrafficResult> {
  await makeCustomers(options);
  await receiveStock(options);
  const result: TrafficResult = {
    requested: 0,
    accepted: 0,
    refused: 0,
    cancelled: 0,
    tooLate: 0,
    replayedKeys: 0,
    placedEvents: [],
  };
  let next = 0;
  const startedAt = performance.now();
  const client = async () => {
    while (next < options.orders && !options.signal.aborted) {
      const number = next++;
      if (options.rate !== undefined) {
        const dueMs = startedAt + (number / options.rate) * 1_000;
        await sleep(Math.max(0, dueMs - performance.now()), options.signal);
      }
      await placeOne(options, number, result);
      options.onProgress(result.accepted + result.refused);
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.clients, options.orders) }, client));
  return result;
}

async function makeCustomers(options: TrafficOptions): Promise<void> {
  const limits = Array.from({ length: CUSTOMERS }, (_, number) => [customerName(number), CREDIT_LIMIT] as const);
  for (const [id, creditLimit] of [...limits, [POOR_CUSTOMER, POOR_CREDIT_LIMIT] as const]) {
    const answer = await send(options, 'PUT', `/v1/customers/${id}`, { currency: 'EUR', creditLimit });
    if (answer.status !== 200) throw unexpected('PUT /v1/customers', answer);
  }
}

async function receiveStock(options: TrafficOptions): Promise<void> {
  for (const [number, sku] of ARTICLES.entries()) {
    const isScarce = number === 0 && options.onlyGood !== true;
    const quantity = isScarce ? Math.ceil(options.orders / SCARCE_SHARE) : options.orders * PIECES_PER_ORDER;
    const answer = await send(options, 'POST', `/v1/stock/${sku}/receipts`, { quantity }, randomUUID());
    if (answer.status !== 200) throw unexpected('POST /v1/stock/{sku}/receipts', answer);
  }
}

function customerName(number: number): string {
  return `customer-${String(number % CUSTOMERS).padStart(2, '0')}`;
}

async function placeOne(options: TrafficOptions, number: number, result: TrafficResult): Promise<void> {
  const mixed = options.onlyGood !== true;
  const toRefuse = mixed && number % EVERY.refused === EVERY.refused - 1;
  const key = randomUUID();
  const body = orderBody(number, toRefuse ? POOR_CUSTOMER : customerName(number));
  result.requested++;
  const answer = await send(options, 'POST', '/v1/orders', body, key);
  if (answer.status === 422 && toRefuse) result.refused++;
  else if (answer.status !== 201 || toRefuse) throw unexpected('POST /v1/orders', answer);
  else {
    const { id, eventId } = answer.body as { id: string; eventId: string };
    result.accepted++;
    result.placedEvents.push({ orderId: id, eventId, idempotencyKey: key });
    if (mixed && number % EVERY.cancelled === 0) {
      const cancelled = await send(options, 'POST', `/v1/orders/${id}/cancel`, {}, randomUUID());
      if (cancelled.status === 409) result.tooLate++;
      else if (cancelled.status !== 200) throw unexpected('POST /v1/orders/{id}/cancel', cancelled);
      else result.cancelled++;
    }
  }
  if (mixed && number % EVERY.repeated === 0) await repeat(options, body, key, answer, result);
}

/** What a client does whose answer got lost: the same request again must give the same answer and change nothing. */
async function repeat(
  options: TrafficOptions,
  body: unknown,
  key: string,
  first: Answer,
  result: TrafficResult,
): Promise<void> {
  const again = await send(options, 'POST', '/v1/orders', body, key);
  if (again.status !== first.status || !again.replayed || again.text !== first.text) {
    throw unexpected('POST /v1/orders with a key used before', again);
  }
  result.replayedKeys++;
}

function orderBody(number: number, customerId: string) {
  const lines = Array.from({ length: 1 + (number % 3) }, (_, line) => ({
    sku: ARTICLES[(number + line * 3) % ARTICLES.length],
    quantity: 1 + ((number * 7 + line) % 5),
    unitPrice: `${5 + ((number * 13 + line) % 90)}.${String((number * 37) % 100).padStart(2, '0')}`,
  }));
  return { customerId, currency: 'EUR', lines, customerEmail: `${customerId}@example.com` };
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly body: unknown;
  readonly replayed: boolean;
}

/** Sends until an answer is final: a lost connection, 503 and a key in use are tried again with the same key. */
async function send(
  { url, key, signal }: TrafficOptions,
  method: 'PUT' | 'POST',
  path: string,
  body: unknown,
  idempotencyKey?: string,
): Promise<Answer> {
  for (let attempt = 0; ; attempt++) {
    try {
      const response = await request(`${url}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${key}`,
          'content-type': 'application/json',
          ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
        },
        body: JSON.stringify(body),
        signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
      });
      const text = await response.body.text();
      const answer = {
        status: response.statusCode,
        text,
        body: JSON.parse(text) as unknown,
        replayed: response.headers['idempotency-replayed'] === 'true',
      };
      if (!isTemporary(answer) || attempt === MAX_ATTEMPTS) return answer;
    } catch (cause) {
      if (signal.aborted || attempt === MAX_ATTEMPTS) {
        throw new FerryError('PART_UNREACHABLE', `${url} does not answer`, { cause });
      }
    }
    await sleep(backoffMs(attempt, 20, 1_000), signal);
  }
}

function isTemporary({ status, body }: Answer): boolean {
  return status === 503 || (status === 409 && (body as { code?: string }).code === 'IDEMPOTENCY_KEY_IN_USE');
}

function unexpected(what: string, { status, body }: Answer): FerryError {
  const code = (body as { code?: string } | null)?.code ?? 'no code';
  return new FerryError('PART_UNREACHABLE', `${what} answered ${status} (${code}), which was not expected`);
}
