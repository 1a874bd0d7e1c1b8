/** What a process does by FERRY_ROLES, and which databases that takes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { databasesOf } from '../../../src/config/databases.ts';
import { loadConfig } from '../../../src/config/load.ts';
import { CONSUMER_ROLES } from '../../../src/domain/commerce/roles.ts';
import { databasesInUse, parseRoles, relaysOf } from '../../../src/ops/roles.ts';

const together = databasesOf(loadConfig({ DATABASE_URL: 'postgres://db/main' }));
const apart = databasesOf(
  loadConfig({
    DATABASE_URL: 'postgres://db/main',
    PAYMENT_DATABASE_URL: 'postgres://db/payment',
    INVENTORY_DATABASE_URL: 'postgres://db/inventory',
  }),
);

describe('roles', () => {
  test('come in any order, with spaces, and twice is once', () => {
    assert.deepEqual([...parseRoles('relay')], ['relay']);
    assert.deepEqual(new Set(parseRoles(' sagas ,api,relay,')), new Set(['api', 'relay', 'sagas']));
    assert.deepEqual(new Set(parseRoles('consumers,sagas')), new Set(CONSUMER_ROLES));
    assert.deepEqual([...parseRoles('api,api')], ['api']);
    assert.deepEqual([...parseRoles('relay:payment')], ['relay:payment']);
    assert.ok(parseRoles(loadConfig({}).FERRY_ROLES).size > 0);
  });

  test('that are none, or do not exist, are refused with those that do', () => {
    for (const text of ['', ' , ', 'api,relays', 'API', 'api relay', 'relay:order']) {
      assert.throws(() => parseRoles(text), {
        code: 'CONFIG_INVALID',
        message: /FERRY_ROLES.*api, relay, ops, consumers.*relay:main/,
      });
    }
  });
});

describe('the relays of a process', () => {
  test('are those of all databases, or those that are named', () => {
    assert.deepEqual(relaysOf(parseRoles('api'), apart), []);
    assert.deepEqual(relaysOf(parseRoles('relay'), together), ['main']);
    assert.deepEqual(relaysOf(parseRoles('relay'), apart), ['main', 'payment', 'inventory']);
    assert.deepEqual(relaysOf(parseRoles('relay,relay:payment'), apart), ['main', 'payment', 'inventory']);
    assert.deepEqual(relaysOf(parseRoles('relay:payment,relay:main'), apart), ['main', 'payment']);
  });

  test('cannot be one of a database that there is not', () => {
    const code = { code: 'CONFIG_INVALID', message: /relay:shipping.*SHIPPING_DATABASE_URL is not set/ };
    assert.throws(() => relaysOf(parseRoles('relay:shipping'), apart), code);
  });
});

test('a process works with the databases of its roles and no others', () => {
  const inUse = (roles: string, databases = apart) => databasesInUse(parseRoles(roles), databases);
  assert.deepEqual(inUse('api,consumers,relay', together), ['main']);
  assert.deepEqual(inUse('api'), ['main', 'inventory']);
  assert.deepEqual(inUse('payment'), ['payment']);
  assert.deepEqual(inUse('shipping'), ['main']);
  assert.deepEqual(inUse('inventory,sagas'), ['main', 'inventory']);
  assert.deepEqual(inUse('relay:payment'), ['payment']);
  assert.deepEqual(inUse('relay'), ['main', 'payment', 'inventory']);
  assert.deepEqual(inUse('ops'), ['main', 'payment', 'inventory']);
});
