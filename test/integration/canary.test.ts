/**
 * What telemetry tells and what it keeps to itself. All roles run as a user would run them, at the most talkative log level and with OTLP
 * export; then one trace must lead from the request to the consumer, and a canary that stood in payloads, keys, headers and bad input must
 * be nowhere in logs, metrics, spans or checkpoints.
 */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import { createApiKey } from '../../src/domain/access/api-key.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import { OtlpCollector } from '../support/otlp-collector.ts';
import { FerryProcess } from '../support/processes.ts';
import { openProof, type Proof } from '../support/proof.ts';
import { createRandom } from '../support/random.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const CANARY = `canary${randomBytes(6).toString('hex')}`;
const TRACE_ID = randomBytes(16).toString('hex');

describe('telemetry', () => {
  const log: string[] = [];
  const metricsTexts: string[] = [];
  let collector: OtlpCollector;
  let service: FerryProcess;
  let proof: Proof;
  let url: string;
  let key: string;

  before(async () => {
    await pushAllSchemas(stack.config);
    proof = await openProof(stack.config);
    key = await createApiKey(proof.pool, { name: 'canary-test', role: 'admin' });
    collector = await OtlpCollector.start();
    const env = {
      ...stack.environment,
      LOG_LEVEL: 'trace',
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
      RELAY_HEARTBEAT_INTERVAL_MS: '200',
    };
    service = new FerryProcess({ roles: 'api,relay,projection', env, onLine: (text) => log.push(text) });
    service.start();
    const listening = await service.waitForLog('listening', ({ msg }) => /listening at http/.test(msg));
    url = /http:\/\/\S+/.exec(listening.msg)?.[0] ?? '';
  });
  after(async () => {
    await service.stop();
    collector.close();
    await proof.close();
  });

  async function call(method: string, path: string, body: object, headers: Record<string, string> = {}) {
    const response = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
    await response.text();
    return response.status;
  }

  async function insert(aggregateId: string, payload: object, headers: object): Promise<void> {
    await proof.pool.query(
      `insert into ferry.outbox (aggregatetype, aggregateid, type, payload, headers) values ('order', $1, 'commerce.OrderPlaced', $2, $3)`,
      [aggregateId, JSON.stringify(payload), JSON.stringify(headers)],
    );
  }

  test('good and bad input with a canary goes all the way', async () => {
    const order = {
      customerId: CANARY,
      currency: 'EUR',
      lines: [{ sku: 'A-1', quantity: 1, unitPrice: '10.00' }],
      customerEmail: `${CANARY}@example.com`,
      shippingAddress: { name: CANARY, street: CANARY, postalCode: '1', city: CANARY, country: 'DE' },
    };
    const idempotent = (name: string) => ({ 'idempotency-key': `${name}-${CANARY}-${randomUUID()}` });
    assert.equal(await call('PUT', `/v1/customers/${CANARY}`, { currency: 'EUR', creditLimit: '100.00' }), 200);
    const traced = { ...idempotent('traced'), traceparent: `00-${TRACE_ID}-${randomBytes(8).toString('hex')}-01` };
    assert.equal(await call('POST', '/v1/orders', order, traced), 201);
    assert.equal(await call('POST', '/v1/orders', { ...order, currency: CANARY }, idempotent('malformed')), 422);
    assert.equal(
      await call('POST', '/v1/orders', { ...order, customerId: `no-${CANARY}` }, idempotent('unknown')),
      422,
    );
    const event = {
      aggregateType: 'order',
      aggregateId: CANARY,
      type: 'commerce.OrderPlaced',
      payload: { total: CANARY },
    };
    assert.equal(await call('POST', '/v1/events', event, idempotent('mismatch')), 422);

    const payload = { ...orderPlaced(createRandom(1)), customerEmail: `${CANARY}@example.com` };
    await insert(`key-${CANARY}`, payload, { tenant: CANARY });
    await insert(`key-${CANARY}`, { ...payload, total: CANARY }, {}); // its schema refuses it: a dead letter
    await proof.assertSound({ deadLettered: 1 });
    await waitUntil('the projection', async () => {
      const { rows } = await proof.pool.query('select from commerce.orders_per_customer where customer_id = $1', [
        CANARY,
      ]);
      return rows.length > 0;
    });
    metricsTexts.push(await (await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${key}` } })).text());
    assert.equal(await service.stop(), 0); // hands over what telemetry still holds
  });

  test('one trace leads from the request to the consumer, with a link from the relay’s transaction', () => {
    const ours = collector.spans.filter(({ traceId }) => traceId === TRACE_ID);
    const request = ours.find(({ name }) => name === 'POST /v1/orders');
    const consumed = ours.find(({ name }) => name === 'ferry.consume');
    assert.ok(request !== undefined, 'the request’s span');
    assert.equal(consumed?.parentSpanId, request.spanId);
    const publishes = collector.spans.filter(({ links }) => links?.some(({ traceId }) => traceId === TRACE_ID));
    assert.equal(publishes.length, 1);
  });

  test('the canary is in no log line, metric, span or checkpoint', async () => {
    const checkpoints: string[] = [];
    const checkpointTopic = `${stack.topicPrefix}ferry.checkpoint.${stack.relayName}`;
    for await (const { key, value, headers } of proof.events.log.readAll([checkpointTopic], 30_000)) {
      checkpoints.push(`${key} ${value} ${JSON.stringify(headers)}`);
    }
    const exported = collector.bodies.map(({ text }) => text);
    for (const [what, texts] of Object.entries({ log, metricsTexts, exported, checkpoints })) {
      assert.ok(texts.length > 0, `${what}: there is something to look at`);
      const caught = texts.find((text) => text.includes(CANARY));
      assert.equal(caught, undefined, what);
    }
    assert.match(metricsTexts.join(), /^ferry_published_events_total\{relay="\w+"\} [1-9]/m);
  });
});
