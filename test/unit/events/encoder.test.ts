/** A refusal is believed only after the registry was asked once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EncodableEvent, type EncodeResult, type EventEncoder, encodeFresh } from '../../../src/events/encoder.ts';

const event: EncodableEvent = { type: 'a.B', payload: { kind: 'json', text: '{}' }, schemaId: null };
const done: EncodeResult = { ok: true, value: Buffer.from('x'), schemaId: 1, subject: 's' };
const refused: EncodeResult = { ok: false, refusal: { code: 'SCHEMA_UNKNOWN', message: 'no', path: null } };

/** Answers in turn, and counts what it was asked. */
function scripted(answers: EncodeResult[], refresh: () => Promise<boolean>) {
  const asked = { encode: 0, refresh: 0 };
  const encoder: EventEncoder = {
    encode: () => answers[asked.encode++] ?? refused,
    refresh: () => {
      asked.refresh += 1;
      return refresh();
    },
  };
  return { encoder, asked };
}

test('what encodes at once asks nobody', async () => {
  const { encoder, asked } = scripted([done], async () => true);
  assert.equal(await encodeFresh(encoder, event, 't'), done);
  assert.deepEqual(asked, { encode: 1, refresh: 0 });
});

test('a refusal is tried again when something new was learnt, and only then', async () => {
  const learnt = scripted([refused, done], async () => true);
  assert.equal(await encodeFresh(learnt.encoder, event, 't'), done);
  const nothing = scripted([refused, done], async () => false);
  assert.equal(await encodeFresh(nothing.encoder, event, 't'), refused);
  assert.deepEqual(nothing.asked, { encode: 1, refresh: 1 });
});

test('a registry that does not answer is no refusal', async () => {
  const { encoder } = scripted([refused], () => Promise.reject(new Error('away')));
  await assert.rejects(encodeFresh(encoder, event, 't'), /away/);
});
