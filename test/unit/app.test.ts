/** What the composition root decides by itself: roles and routes out of the configuration's text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRoles } from '../../src/app.ts';
import { loadConfig } from '../../src/config/load.ts';
import { CONSUMER_ROLES } from '../../src/domain/commerce/consumers.ts';
import { topicRoutes } from '../../src/events/routes.ts';

test('roles come in any order, with spaces, and twice is once', () => {
  assert.deepEqual([...parseRoles('relay')], ['relay']);
  assert.deepEqual(new Set(parseRoles(' sagas ,api,relay,')), new Set(['api', 'relay', 'sagas']));
  assert.deepEqual(new Set(parseRoles('consumers,sagas')), new Set(CONSUMER_ROLES));
  assert.deepEqual([...parseRoles('api,api')], ['api']);
  assert.ok(parseRoles(loadConfig({}).FERRY_ROLES).size > 0);
});

test('no role, or one that does not exist, is refused with those that do', () => {
  for (const text of ['', ' , ', 'api,relays', 'API', 'api relay']) {
    assert.throws(() => parseRoles(text), {
      code: 'CONFIG_INVALID',
      message: /FERRY_ROLES.*api, relay, ops, consumers/,
    });
  }
});

test('routes map aggregate types to topics under the prefix', () => {
  const routes = topicRoutes({ TOPIC_PREFIX: 'p.', TOPIC_ROUTES: 'order=commerce.order,customer=crm' });
  assert.deepEqual(['order', 'customer', 'other'].map((type) => routes.topicOf(type)), ['p.commerce.order', 'p.crm', 'p.other']); // biome-ignore format: one thought
});

test('routes that are no pairs, or lead to no legal topic, are refused', () => {
  for (const TOPIC_ROUTES of ['order', '=x', 'order=a=b']) {
    assert.throws(() => topicRoutes({ TOPIC_PREFIX: '', TOPIC_ROUTES }), {
      code: 'CONFIG_INVALID',
      message: /TOPIC_ROUTES/,
    });
  }
  const routes = topicRoutes({ TOPIC_PREFIX: '', TOPIC_ROUTES: 'order=no topic' });
  assert.throws(() => routes.topicOf('order'), { code: 'TOPIC_INVALID' });
  assert.throws(() => routes.configured(), { code: 'TOPIC_INVALID' });
});
