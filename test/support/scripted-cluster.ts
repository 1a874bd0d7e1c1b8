/** A Kafka cluster that answers as a test says and fails at every call that the test did not expect. */
import type { Broker, Cluster } from '../../src/kafka/protocol.ts';

export function scriptedCluster(script: Partial<Cluster>): Cluster {
  return unscripted('cluster', script);
}

export function scriptedBroker(script: Partial<Broker>): Broker {
  return unscripted('broker', { nodeId: 1, ...script });
}

function unscripted<T extends object>(what: string, script: Partial<T>): T {
  return new Proxy(script, {
    get(target, name, receiver) {
      if (name === 'then') return undefined; // awaiting it is no call
      if (!(name in target)) throw new Error(`unexpected use of ${what}.${String(name)}`);
      return Reflect.get(target, name, receiver);
    },
  }) as T;
}

/** An error as kafkajs throws it: named by Kafka's error in `type`. */
export function kafkaError(type: string): Error {
  return Object.assign(new Error(`Kafka says ${type}`), { name: 'KafkaJSProtocolError', type });
}
