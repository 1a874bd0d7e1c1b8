/** Names that a relay derives from its own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { relayNames } from '../../../src/relay/names.ts';

const CONFIG = { RELAY_NAME: 'main', PUBLICATION_NAME: 'ferry_outbox', TOPIC_PREFIX: 'shop.' };

test('slot and checkpoint topic follow from the name; the slot can be given', () => {
  const names = {
    name: 'main',
    slot: 'ferry_main',
    publication: 'ferry_outbox',
    checkpointTopic: 'shop.ferry.checkpoint.main',
    parkedTopic: 'shop.ferry.parked.main',
  };
  assert.deepEqual(relayNames(CONFIG), names);
  assert.deepEqual(relayNames({ ...CONFIG, RELAY_SLOT: 'other' }), { ...names, slot: 'other' });
});

test('names that Postgres would not take for a slot are refused before anything is made', () => {
  for (const RELAY_NAME of ['', 'Main', 'a-b', 'ä', 'a'.repeat(41)]) {
    assert.throws(() => relayNames({ ...CONFIG, RELAY_NAME }), { code: 'CONFIG_INVALID', message: /RELAY_NAME/ });
  }
  for (const RELAY_SLOT of ['', 'A', 'a.b', 'a'.repeat(64)]) {
    assert.throws(() => relayNames({ ...CONFIG, RELAY_SLOT }), { code: 'CONFIG_INVALID', message: /RELAY_SLOT/ });
  }
});

test('the longest name still gives a legal slot', () => {
  assert.equal(relayNames({ ...CONFIG, RELAY_NAME: 'a'.repeat(40) }).slot.length, 46);
});
