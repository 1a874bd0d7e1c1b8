/** Topics and subjects. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { deadLetterTopic, isKeptTopic, subjectOf, TopicRoutes, topicRoutes } from '../../../src/events/routes.ts';
import { FerryError } from '../../../src/kernel/errors.ts';

const routes = new TopicRoutes(
  'test.',
  new Map([
    ['order', 'commerce.order'],
    ['refund', 'commerce.order'],
  ]),
);

test('a listed aggregatetype goes to its topic, another to the topic of its name', () => {
  assert.equal(routes.topicOf('order'), 'test.commerce.order');
  assert.equal(routes.topicOf('invoice'), 'test.invoice');
  assert.equal(deadLetterTopic(routes.topicOf('order')), 'test.commerce.order.dlq');
  assert.deepEqual(routes.configured(), ['test.commerce.order']);
});

test('a topic is one that Kafka takes with any suffix of ours, or a named refusal', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (aggregateType) => {
      try {
        const topic = routes.topicOf(aggregateType);
        assert.match(deadLetterTopic(topic), /^[a-zA-Z0-9._-]{1,249}$/);
      } catch (error) {
        assert.ok(error instanceof FerryError && error.code === 'TOPIC_INVALID');
      }
    }),
  );
  const bare = new TopicRoutes('', new Map());
  for (const name of ['', '.', '..', 'a b', 'ä', 'x'.repeat(241)]) {
    assert.throws(() => bare.topicOf(name), { code: 'TOPIC_INVALID' }, name);
  }
});

test('no event goes where Kafka, a registry, Ferry or dead letters are kept', () => {
  const bare = new TopicRoutes('', new Map([['audit', '__transaction_state']]));
  for (const name of ['audit', '__consumer_offsets', '_schemas', 'ferry.parked.main', 'order.dlq']) {
    assert.throws(() => bare.topicOf(name), { code: 'TOPIC_INVALID' }, name);
    assert.equal(bare.tryTopicOf(name), null);
  }
  for (const name of ['ferry.checkpoint.main', '__offsets', '_schemas', 'invoice.dlq']) {
    assert.throws(() => routes.topicOf(name), { code: 'TOPIC_INVALID' }, name);
  }
  for (const name of ['ferry', 'ferryboat', '_schemas2', 'dlq', 'order.dlq.x']) assert.equal(bare.topicOf(name), name);
});

test('what is kept is told by the name behind the prefix, and by the whole name where a prefix completes one of Kafka’s', () => {
  assert.equal(isKeptTopic('ferry.order', 'ferry.'), false, 'an installation of that prefix has all its topics there');
  assert.equal(isKeptTopic('ferry.ferry.parked.main', 'ferry.'), true);
  assert.equal(isKeptTopic('__transaction_state', '_'), true);
  assert.equal(isKeptTopic('ferry.checkpoint.main', 'shop.'), true, 'another installation’s');
});

test('subjects follow Confluent’s three strategies', () => {
  assert.equal(
    subjectOf('topic-record', 'commerce.order', 'commerce.OrderPlaced'),
    'commerce.order-commerce.OrderPlaced',
  );
  assert.equal(subjectOf('topic', 'commerce.order', 'commerce.OrderPlaced'), 'commerce.order-value');
  assert.equal(subjectOf('record', 'commerce.order', 'commerce.OrderPlaced'), 'commerce.OrderPlaced');
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
