/**
 * The EventEncoder and EventDecoder over a registry: one suite, run on the registry in memory and on the real one, so that what unit
 * tests learn from the fake is true.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { type EncodableEvent, type EncodeResult, encodeFresh } from '../../src/events/encoder.ts';
import type { Payload } from '../../src/events/outbox-event.ts';
import { subjectOf } from '../../src/events/routes.ts';
import { FerryError } from '../../src/kernel/errors.ts';
import { createDecoder } from '../../src/registry/decoder.ts';
import { createEncoder } from '../../src/registry/encoder.ts';
import { createRegistryClient, type SchemaReader } from '../../src/registry/registry-client.ts';
import { SchemaStore } from '../../src/registry/schema-store.ts';
import { MemoryRegistry } from '../support/memory-registry.ts';
import { testStack } from '../support/stack.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

interface Subject {
  readonly reader: SchemaReader;
  push(subject: string, text: string): Promise<number>;
  setDown(down: boolean): void;
}

const stack = await testStack();
const memory = new MemoryRegistry();
const registryAddress = new URL(stack.registryUrl);
const proxy = await TcpProxy.start({ host: registryAddress.hostname, port: Number(registryAddress.port) });
after(() => proxy.close());
const direct = createRegistryClient({ url: stack.registryUrl });

const subjects: Record<string, Subject> = {
  'the registry in memory': {
    reader: memory,
    push: async (subject, text) => memory.push(subject, text),
    setDown: (down) => {
      memory.down = down;
    },
  },
  'the real registry': {
    reader: createRegistryClient({ url: proxy.through(stack.registryUrl), timeoutMs: 5_000 }),
    push: async (subject, text) => {
      await direct.setCompatibilityLevel(subject, 'FULL_TRANSITIVE');
      return direct.register(subject, text, 'FULL_TRANSITIVE');
    },
    setDown: (down) => {
      proxy.setMode(down ? 'refuse' : 'pass');
      proxy.cut();
    },
  },
};

const REQUIRED = { name: 'id', type: 'string' };
const NOTE = { name: 'note', type: ['null', 'string'], default: null };
const COUNT = { name: 'count', type: 'long', default: 0 };

function record(type: string, ...fields: object[]): string {
  return JSON.stringify({ type: 'record', name: type, fields });
}

const json = (value: unknown): Payload => ({ kind: 'json', text: JSON.stringify(value) });
const event = (type: string, payload: Payload, schemaId: number | null = null): EncodableEvent => ({
  type,
  payload,
  schemaId,
});

function accepted(result: EncodeResult): { value: Buffer; schemaId: number } {
  assert.ok(result.ok, result.ok ? '' : result.refusal.message);
  assert.ok(result.value !== null && result.schemaId !== null);
  return { value: result.value, schemaId: result.schemaId };
}

function refused(result: EncodeResult): string {
  assert.ok(!result.ok, 'accepted');
  return result.refusal.code;
}

for (const [name, { reader, push, setDown }] of Object.entries(subjects)) {
  describe(`encoder and decoder over ${name}`, () => {
    /** Names of its own for each test, and an encoder that knows nothing yet. */
    function setUp(maxEventBytes = 10_000) {
      const topic = `t${randomBytes(5).toString('hex')}`;
      const type = `${topic}.Happened`;
      const store = new SchemaStore(reader);
      const encoder = createEncoder({ store, naming: 'topic-record', maxEventBytes });
      return {
        topic,
        type,
        encoder,
        decoder: createDecoder({ store }),
        subject: subjectOf('topic-record', topic, type),
      };
    }

    test('an event is encoded with the schema that its subject has, and decodes to the same JSON', async () => {
      const { topic, type, encoder, decoder, subject } = setUp();
      const id = await push(subject, record(type, REQUIRED, NOTE));
      const happened = event(type, json({ id: 'a', note: 'ü' }));
      assert.equal(refused(encoder.encode(happened, topic)), 'SCHEMA_UNKNOWN', 'nothing is known before refresh');
      const result = await encodeFresh(encoder, happened, topic);
      const { value, schemaId } = accepted(result);
      assert.equal(schemaId, id);
      assert.equal(result.ok && result.subject, subject);
      assert.deepEqual(await decoder.decode(value), { schemaId: id, type, value: { id: 'a', note: 'ü' } });
    });

    test('a decoder that has never heard of the schema asks for it', async () => {
      const { topic, type, encoder, subject } = setUp();
      await push(subject, record(type, REQUIRED));
      const { value } = accepted(await encodeFresh(encoder, event(type, json({ id: 'a' })), topic));
      const fresh = createDecoder({ store: new SchemaStore(reader) });
      assert.deepEqual((await fresh.decode(value)).value, { id: 'a' });
    });

    test('version 2 is pushed while writers of both versions are live: nothing is refused', async () => {
      const { topic, type, encoder, decoder, subject } = setUp();
      const first = await push(subject, record(type, REQUIRED, NOTE));
      accepted(await encodeFresh(encoder, event(type, json({ id: 'a', note: 'n' })), topic));
      const second = await push(subject, record(type, REQUIRED, COUNT)); // one field comes, one goes
      const writes = [{ id: 'b', count: 1 }, { id: 'c', note: 'old' }, { id: 'd', count: 2 }, { id: 'e' }];
      const used: number[] = [];
      for (const value of writes) {
        const encoded = accepted(await encodeFresh(encoder, event(type, json(value)), topic));
        used.push(encoded.schemaId);
        assert.partialDeepStrictEqual((await decoder.decode(encoded.value)).value, value);
      }
      assert.deepEqual(used, [second, first, second, second]);
    });

    test('a reader schema shows old events in its own form', async () => {
      const { topic, type, encoder, decoder, subject } = setUp();
      await push(subject, record(type, REQUIRED, NOTE));
      const { value } = accepted(await encodeFresh(encoder, event(type, json({ id: 'a', note: 'n' })), topic));
      const readerSchema = record(type, REQUIRED, COUNT);
      assert.deepEqual((await decoder.decode(value, { readerSchema })).value, { id: 'a', count: 0 });
      const unreadable = decoder.decode(value, { readerSchema: record(type, { name: 'other', type: 'int' }) });
      await assert.rejects(unreadable, { code: 'SCHEMA_INCOMPATIBLE' });
    });

    test('schema_id pins the version, and must be one of the subject’s and of the type', async () => {
      const { topic, type, encoder, subject } = setUp();
      const first = await push(subject, record(type, REQUIRED, NOTE));
      await push(subject, record(type, REQUIRED, COUNT));
      const pinned = await encodeFresh(encoder, event(type, json({ id: 'a' }), first), topic);
      assert.equal(accepted(pinned).schemaId, first);
      const elsewhere = await push(`${topic}.other-${type}`, record(type, REQUIRED, { ...COUNT, doc: 'elsewhere' }));
      const foreign = event(type, json({ id: 'a' }), elsewhere);
      assert.equal(refused(await encodeFresh(encoder, foreign, topic)), 'SCHEMA_SUBJECT_MISMATCH');
      const mistyped = event(`${type}2`, json({ id: 'a' }), first);
      assert.equal(refused(await encodeFresh(encoder, mistyped, topic)), 'SCHEMA_SUBJECT_MISMATCH');
      const unknown = event(type, json({ id: 'a' }), 2_000_000_000);
      assert.equal(refused(await encodeFresh(encoder, unknown, topic)), 'SCHEMA_UNKNOWN');
    });

    test('bytes in wire format pass unchanged if every byte of them is right', async () => {
      const { topic, type, encoder, subject } = setUp();
      const id = await push(subject, record(type, REQUIRED));
      const { value } = accepted(await encodeFresh(encoder, event(type, json({ id: 'abc' })), topic));
      const fresh = createEncoder({ store: new SchemaStore(reader), naming: 'topic-record', maxEventBytes: 10_000 });
      const bytes = (changed: Buffer): EncodableEvent => event(type, { kind: 'avro', bytes: changed });
      const passed = accepted(await encodeFresh(fresh, bytes(value), topic));
      assert.equal(passed.schemaId, id);
      assert.equal(passed.value, value);
      const wrong: Array<[EncodableEvent, string, string]> = [
        [bytes(Buffer.concat([value, Buffer.from([0])])), topic, 'SCHEMA_MISMATCH'],
        [bytes(value.subarray(0, -1)), topic, 'SCHEMA_MISMATCH'],
        [bytes(Buffer.from('{"id":"abc"}')), topic, 'PAYLOAD_NOT_WIRE_FORMAT'],
        [bytes(Buffer.from([0, 0x77, 0, 0, 0, 0])), topic, 'SCHEMA_UNKNOWN'],
        [bytes(value), `${topic}.other`, 'SCHEMA_SUBJECT_MISMATCH'],
        [event(`${type}2`, { kind: 'avro', bytes: value }), topic, 'SCHEMA_SUBJECT_MISMATCH'],
        [event(type, { kind: 'avro', bytes: value }, id + 1), topic, 'SCHEMA_SUBJECT_MISMATCH'],
      ];
      for (const [broken, to, code] of wrong) assert.equal(refused(await encodeFresh(fresh, broken, to)), code);
    });

    test('a refusal names the field and never its value', async () => {
      const { topic, type, encoder, subject } = setUp();
      await push(subject, record(type, REQUIRED, COUNT));
      const result = await encodeFresh(encoder, event(type, json({ id: 'a', count: 'CANARY' })), topic);
      assert.ok(!result.ok);
      const { code, path, message } = result.refusal;
      assert.deepEqual({ code, path }, { code: 'SCHEMA_MISMATCH', path: '/count' });
      assert.doesNotMatch(message, /CANARY/);
    });

    test('size is bounded, and a tombstone is null', async () => {
      const { topic, type, encoder, subject } = setUp(100);
      await push(subject, record(type, REQUIRED));
      const large = await encodeFresh(encoder, event(type, json({ id: 'x'.repeat(200) })), topic);
      assert.equal(refused(large), 'EVENT_TOO_LARGE');
      const tombstone = encoder.encode(event(type, { kind: 'tombstone' }), topic);
      assert.deepEqual(tombstone, { ok: true, value: null, schemaId: null, subject: null });
    });

    test('with the registry down, known schemas go on, the rest waits, and nothing known is dropped', async () => {
      const { topic, type, encoder, decoder, subject } = setUp();
      const id = await push(subject, record(type, REQUIRED));
      const good = event(type, json({ id: 'a' }));
      const { value } = accepted(await encodeFresh(encoder, good, topic));
      setDown(true);
      try {
        accepted(await encodeFresh(encoder, good, topic));
        await decoder.decode(value);
        const unavailable = { code: 'REGISTRY_UNAVAILABLE' };
        await assert.rejects(encodeFresh(encoder, event(type, json({ id: 1 })), topic), unavailable);
        await assert.rejects(encodeFresh(encoder, event(`${type}2`, json({})), topic), unavailable);
        await assert.rejects(decoder.decode(Buffer.from([0, 0x77, 0, 0, 1, 0])), unavailable);
        assert.equal(accepted(encoder.encode(good, topic)).schemaId, id);
      } finally {
        setDown(false);
      }
      const mended = async (): Promise<string> =>
        refused(await encodeFresh(encoder, event(type, json({ id: 1 })), topic));
      assert.equal(await untilAvailable(mended), 'SCHEMA_MISMATCH');
    });

    test('bytes that no schema explains are named as such', async () => {
      const { decoder } = setUp();
      await assert.rejects(decoder.decode(Buffer.from('hello')), { code: 'PAYLOAD_NOT_WIRE_FORMAT' });
      await assert.rejects(decoder.decode(Buffer.from([0, 0x77, 0, 0, 2, 0])), { code: 'SCHEMA_UNKNOWN' });
    });

    test('a type that is pushed just after it was refused is known at the next event', async () => {
      const { topic, type, encoder, subject } = setUp();
      const happened = event(type, json({ id: 'a' }));
      assert.equal(refused(await encodeFresh(encoder, happened, topic)), 'SCHEMA_UNKNOWN');
      await push(subject, record(type, REQUIRED));
      accepted(await encodeFresh(encoder, happened, topic));
    });
  });
}

/** An outage is remembered for a second: asks until it is over. */
async function untilAvailable<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 0; attempt < 20; attempt++) {
    try {
      return await work();
    } catch (thrown) {
      if (!(thrown instanceof FerryError) || thrown.code !== 'REGISTRY_UNAVAILABLE') throw thrown;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
  return work();
}
