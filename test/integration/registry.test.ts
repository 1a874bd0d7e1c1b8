/** Checking and pushing on the real registry: levels first, nothing registered twice, nothing changed when something breaks. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { SchemaRegistry } from '@kafkajs/confluent-schema-registry';
import { encodeFresh } from '../../src/events/encoder.ts';
import { TopicRoutes } from '../../src/events/routes.ts';
import { createEncoder } from '../../src/registry/encoder.ts';
import { createRegistryClient } from '../../src/registry/registry-client.ts';
import { readSchemaFile, readSchemaFiles, type SchemaFile } from '../../src/registry/schema-files.ts';
import {
  checkSchemas,
  describeSchemaReport,
  listSchemas,
  pushSchemas,
  type SchemaContext,
} from '../../src/registry/schema-push.ts';
import { SchemaStore } from '../../src/registry/schema-store.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const client = createRegistryClient({ url: stack.registryUrl });
const shipped = readSchemaFiles(join(import.meta.dirname, '../../schemas'));

let contexts = 0;
/** A prefix of its own for each test: other subjects. */
function context(
  files: readonly SchemaFile[],
): SchemaContext & { inPrefix(files: readonly SchemaFile[]): SchemaContext } {
  const routes = new TopicRoutes(`${stack.topicPrefix}${contexts++}.`, new Map());
  const inPrefix = (other: readonly SchemaFile[]): SchemaContext => ({
    client,
    routes,
    naming: 'topic-record',
    files: other,
  });
  return { ...inPrefix(files), inPrefix };
}

function schemaFile(fields: object[], attributes: object = {}): SchemaFile {
  const schema = { type: 'record', name: 'shop.Sold', 'ferry.aggregatetype': 'sale', ...attributes, fields };
  const read = readSchemaFile('shop.Sold.avsc', JSON.stringify(schema));
  assert.ok(!('faults' in read), JSON.stringify(read));
  return read;
}

const ID = { name: 'id', type: 'string' };

test('pushing registers everything with its level, and pushing again does nothing', async () => {
  const all = context(shipped);
  assert.deepEqual(new Set((await checkSchemas(all)).map(({ state }) => state)), new Set(['new']));
  const pushed = await pushSchemas(all);
  assert.equal(pushed.changes.length, 2 * shipped.length);
  for (const { subject, state, version } of pushed.schemas) {
    assert.deepEqual({ state, version }, { state: 'registered', version: 1 });
    assert.equal(await client.compatibilityLevel(subject), 'FULL_TRANSITIVE');
  }
  assert.deepEqual((await pushSchemas(all)).changes, []);
  const ours = (await listSchemas(all)).filter(({ file }) => file !== null);
  assert.deepEqual(
    ours.map(({ file, versions }) => `${file} ${versions.length}`).sort(),
    shipped.map(({ file }) => `${file} 1`).sort(),
  );
});

test('a level that was set before its first version, by a push that was cut short, is no obstacle', async () => {
  const one = context([schemaFile([ID])]);
  const [report] = await checkSchemas(one);
  await client.setCompatibilityLevel(report?.subject ?? '', 'FULL_TRANSITIVE');
  assert.equal((await pushSchemas(one)).changes.length, 1);
});

test('what breaks is explained, and then nothing at all is changed', async () => {
  const one = context([schemaFile([ID])]);
  await pushSchemas(one);
  const fresh = shipped.slice(0, 1);
  const broken = one.inPrefix([...fresh, schemaFile([ID, { name: 'n', type: 'int' }])]);
  const result = await pushSchemas(broken);
  assert.deepEqual({ ok: result.ok, changes: result.changes }, { ok: false, changes: [] });
  const report = result.schemas[1];
  assert.ok(report !== undefined);
  assert.equal(report.state, 'incompatible');
  assert.match(
    describeSchemaReport(report).join('\n'),
    /\/n: the field is new and has no default.*Mend: give n a "default"/,
  );
  assert.equal(await client.versionsOf(result.schemas[0]?.subject ?? ''), null, 'the file that was in order waits too');
  await assert.rejects(client.register(report.subject, broken.files[1]?.text ?? '', 'FULL_TRANSITIVE'), {
    code: 'SCHEMA_INCOMPATIBLE',
  });
});

test('a compatible change becomes version 2; going back to version 1 registers nothing', async () => {
  const first = context([schemaFile([ID])]);
  await pushSchemas(first);
  const second = first.inPrefix([schemaFile([ID, { name: 'n', type: 'int', default: 0 }])]);
  assert.equal((await checkSchemas(second))[0]?.state, 'changed');
  assert.equal((await pushSchemas(second)).schemas[0]?.version, 2);
  const [back] = (await pushSchemas(first)).schemas;
  assert.deepEqual({ version: back?.version, newest: back?.newestVersion }, { version: 1, newest: 2 });
});

test('a subject whose level drifted is judged by the file’s, and mended by push', async () => {
  const one = context([schemaFile([ID])]);
  const subject = (await pushSchemas(one)).schemas[0]?.subject ?? '';
  await client.setCompatibilityLevel(subject, 'NONE');
  const broken = one.inPrefix([schemaFile([{ name: 'other', type: 'string' }])]);
  assert.equal((await checkSchemas(broken))[0]?.state, 'incompatible', 'the registry would take it under NONE');
  assert.match((await pushSchemas(one)).changes.join(), /NONE → FULL_TRANSITIVE/);
  assert.equal(await client.compatibilityLevel(subject), 'FULL_TRANSITIVE');
});

test('two types of one topic need subjects of their own', async () => {
  await assert.rejects(checkSchemas({ ...context(shipped), naming: 'topic' }), { code: 'CONFIG_INVALID' });
});

test('encoding and decoding change nothing in the registry', async () => {
  const one = context(shipped);
  const [report] = await checkSchemas(one);
  const encoder = createEncoder({ store: new SchemaStore(client), naming: 'topic-record', maxEventBytes: 1_000 });
  const event = { type: report?.type ?? '', payload: { kind: 'json', text: '{}' } as const, schemaId: null };
  const refused = await encodeFresh(encoder, event, report?.topic ?? '');
  assert.equal(refused.ok, false);
  assert.equal(await client.versionsOf(report?.subject ?? ''), null);
  assert.equal(await client.compatibilityLevel(report?.subject ?? ''), null);
});

test('another client reads what was encoded', async () => {
  const all = context(shipped);
  const placed = (await pushSchemas(all)).schemas.find(({ type }) => type === 'commerce.OrderPlaced');
  assert.ok(placed !== undefined);
  const order = {
    orderId: '0198c1f2-7d1e-7c44-9a55-0c2c6f2f9b11',
    customerId: 'c-1',
    currency: 'EUR',
    lines: [{ sku: 'A', quantity: 2, unitPrice: '-12.50' }],
    total: '9007199254740993.01',
    placedAt: '2025-08-19T12:34:56.123456Z',
  };
  const encoder = createEncoder({ store: new SchemaStore(client), naming: 'topic-record', maxEventBytes: 10_000 });
  const payload = { kind: 'json', text: JSON.stringify(order) } as const;
  const encoded = await encodeFresh(encoder, { type: placed.type, payload, schemaId: null }, placed.topic);
  assert.ok(encoded.ok && encoded.value !== null);
  const read = await new SchemaRegistry({ host: stack.registryUrl }).decode(encoded.value);
  assert.equal(read.orderId, order.orderId);
  assert.equal(read.customerEmail, null);
  assert.equal(read.lines[0].unitPrice.readInt16BE(0), -1250);
  assert.equal(BigInt(`0x${read.total.toString('hex')}`), 900_719_925_474_099_301n);
  assert.equal(read.placedAt, Date.parse('2025-08-19T12:34:56.123Z') * 1000 + 456);
});
