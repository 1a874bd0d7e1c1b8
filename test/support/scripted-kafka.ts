/**
 * A small Kafka behind the calls that TransactionalProducer makes: notes them in order, keeps the record batches that it is sent, and
 * fails where a test says.
 */
import type { Broker, Cluster } from '../../src/kafka/protocol.ts';
import { bytes, int16, int32, int64 } from './bytes.ts';
import { rawBroker, type SentRequest, text } from './raw-broker.ts';
import { scriptedCluster } from './scripted-cluster.ts';

export interface SentBatch {
  readonly topic: string;
  readonly partition: number;
  readonly bytes: Buffer;
}

export type Call = 'findCoordinator' | 'initProducerId' | 'addPartitions' | 'produce' | 'endTxn';

const COORDINATOR = 9;

export class ScriptedKafka {
  readonly calls: string[] = [];
  readonly batches: SentBatch[] = [];
  /** Errors to come, by call: each is thrown once. */
  readonly failures: Partial<Record<Call, Error[]>> = {};
  readonly cluster: Cluster;
  /** Leader of each partition, by topic. */
  readonly #leaders: Readonly<Record<string, readonly number[]>>;

  constructor(leaders: Readonly<Record<string, readonly number[]>>) {
    this.#leaders = leaders;
    this.cluster = scriptedCluster({
      addMultipleTargetTopics: async () => {},
      findTopicPartitionMetadata: (topic) =>
        (this.#leaders[topic] ?? []).map((leader, partitionId) => ({ partitionId, leader })),
      findGroupCoordinator: async () => {
        this.#called('findCoordinator');
        return this.#broker(COORDINATOR);
      },
      findBroker: async ({ nodeId }) => this.#broker(Number(nodeId)),
    });
  }

  #broker(nodeId: number): Broker {
    return rawBroker((request) => this.#produce(nodeId, request), {
      nodeId,
      initProducerId: async () => {
        this.#called('initProducerId');
        return { producerId: '4000', producerEpoch: 7 };
      },
      addPartitionsToTxn: async ({ topics }) => {
        const named = topics.flatMap(({ topic, partitions }) => partitions.map((partition) => `${topic}/${partition}`));
        this.#called('addPartitions', named.join(' '));
      },
      endTxn: async ({ transactionResult }) => this.#called('endTxn', transactionResult ? 'commit' : 'abort'),
    });
  }

  #produce(nodeId: number, request: SentRequest): Buffer {
    const batches = decodeProduce(request.payload);
    this.#called('produce', `${nodeId}: ${batches.map(({ topic, partition }) => `${topic}/${partition}`).join(' ')}`);
    this.batches.push(...batches);
    const answers = batches.map(({ topic, partition }) =>
      bytes(text(topic), int32(1), int32(partition), int16(0), int64(0n), int64(-1n), int64(0n)),
    );
    return bytes(int32(answers.length), ...answers, int32(0));
  }

  #called(call: Call, what = ''): void {
    this.calls.push(what === '' ? call : `${call} ${what}`);
    const failure = this.failures[call]?.shift();
    if (failure !== undefined) throw failure;
  }
}

function decodeProduce(payload: Buffer): SentBatch[] {
  let at = 2 + payload.readInt16BE(0) + 2 + 4; // transactional id, acks, time-out
  const int = () => {
    at += 4;
    return payload.readInt32BE(at - 4);
  };
  const batches: SentBatch[] = [];
  for (let topics = int(); topics > 0; topics--) {
    const length = payload.readInt16BE(at);
    const topic = payload.toString('utf8', at + 2, at + 2 + length);
    at += 2 + length;
    for (let partitions = int(); partitions > 0; partitions--) {
      const partition = int();
      const size = int();
      batches.push({ topic, partition, bytes: payload.subarray(at, at + size) });
      at += size;
    }
  }
  return batches;
}
