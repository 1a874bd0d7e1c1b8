/** The proxy against the real Kafka: clients come back through it though the broker advertises its own port, and feel its faults. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { createKafka, kafkaOptions } from '../../src/kafka/client.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

const stack = await testStack();

describe('TcpProxy before Kafka', async () => {
  const [advertisedHost = '', port = ''] = stack.kafkaBrokers.split(':');
  const proxy = await TcpProxy.start({ host: advertisedHost, port: Number(port), advertisedHost });
  const KAFKA_BROKERS = `127.0.0.1:${proxy.port}`;
  const logger = createLogger({ LOG_LEVEL: 'silent', LOG_FORMAT: 'json' }, { role: 'test' });
  const admin = createKafka(kafkaOptions({ KAFKA_BROKERS, KAFKA_TLS: 'off' }, 'proxy-test', logger)).admin();
  after(async () => {
    await admin.disconnect();
    await proxy.close();
  });

  test('every broker is at the proxy', async () => {
    await admin.connect();
    const { brokers } = await admin.describeCluster();
    assert.deepEqual(
      brokers.map((broker) => broker.port),
      [proxy.port],
    );
    assert.ok(proxy.connections > 0);
  });

  test('a cut is got over, a refusal is felt while it lasts', async () => {
    const answers = async () => (await admin.describeCluster()).brokers.length === 1;
    proxy.cut();
    await waitUntil('Kafka to answer again', answers);
    proxy.setMode('refuse');
    proxy.cut();
    await assert.rejects(answers());
    await assert.rejects(answers());
    proxy.setMode('pass');
    await waitUntil('Kafka to answer again', answers);
  });
});
