import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { databaseOf, databasesOf } from '../../../src/config/databases.ts';
import { loadConfig } from '../../../src/config/load.ts';

const of = (environment: Record<string, string>) =>
  databasesOf(loadConfig({ DATABASE_URL: 'postgres://db/main', ...environment }));

describe('the databases of a configuration', () => {
  test('are one, unless a participant has its own', () => {
    const databases = of({});
    assert.deepEqual([...databases.keys()], ['main']);
    assert.equal(databaseOf(databases, 'payment'), 'main');
  });

  test('each have an address, a relay and a slot of their own, and whatever else is set', () => {
    const databases = of({ PAYMENT_DATABASE_URL: 'postgres://db/payment', RELAY_NAME: 'eu', TOPIC_PREFIX: 'x.' });
    assert.deepEqual([...databases.keys()], ['main', 'payment']);
    const [main, payment] = [databases.get('main'), databases.get('payment')];
    assert.deepEqual([main?.DATABASE_URL, main?.RELAY_NAME, main?.own], ['postgres://db/main', 'eu', undefined]);
    assert.deepEqual([payment?.DATABASE_URL, payment?.RELAY_NAME], ['postgres://db/payment', 'eu_payment']);
    assert.deepEqual([payment?.own, payment?.TOPIC_PREFIX, payment?.RELAY_SLOT], ['payment', 'x.', undefined]);
    assert.equal(databaseOf(databases, 'payment'), 'payment');
    assert.equal(databaseOf(databases, 'shipping'), 'main');

    const slots = of({ SHIPPING_DATABASE_URL: 'postgres://db/shipping', RELAY_SLOT: 'tap' });
    assert.deepEqual([...slots.values()].map(({ RELAY_SLOT }) => RELAY_SLOT), ['tap', 'tap_shipping']); // biome-ignore format: one thought
  });

  test('seen through one of them are that one alone', () => {
    const databases = of({ PAYMENT_DATABASE_URL: 'postgres://db/payment' });
    for (const config of databases.values()) assert.deepEqual([...databasesOf(config).keys()], ['main']);
  });

  test('are one where the same is named, and cannot be shared by two participants', () => {
    assert.deepEqual([...of({ PAYMENT_DATABASE_URL: 'postgres://db/main' }).keys()], ['main']);
    const shared = 'postgres://db/shared';
    assert.throws(() => of({ PAYMENT_DATABASE_URL: shared, SHIPPING_DATABASE_URL: shared }), {
      code: 'CONFIG_INVALID',
      message: /^SHIPPING_DATABASE_URL names the database of PAYMENT_DATABASE_URL/,
    });
  });
});
