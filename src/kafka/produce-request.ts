/** Produce (api key 0, version 7): one record batch for each partition of one leader. Source: Kafka's ProduceRequest.json. */
import { type Broker, type RawRequest, sendRaw, throwOnErrorCode } from './protocol.ts';

export interface PartitionBatch {
  readonly topic: string;
  readonly partition: number;
  readonly bytes: Buffer;
}

const PRODUCE = { apiKey: 0, apiVersion: 7, apiName: 'Produce' } as const;
const ACKS_ALL = -1;
const BROKER_TIMEOUT_MS = 10_000;

export function encodeProduceRequest(transactionalId: string, batches: readonly PartitionBatch[]): RawRequest {
  const byTopic = Map.groupBy(batches, (batch) => batch.topic);
  const parts: Buffer[] = [text(transactionalId), int16(ACKS_ALL), int32(BROKER_TIMEOUT_MS), int32(byTopic.size)];
  for (const [topic, partitions] of byTopic) {
    parts.push(text(topic), int32(partitions.length));
    for (const { partition, bytes } of partitions) parts.push(int32(partition), int32(bytes.length), bytes);
  }
  return { ...PRODUCE, payload: Buffer.concat(parts) };
}

/**
 * Sends and believes the answer only if it covers every partition that was sent without an error: an answer with partitions missing has
 * lost records silently before (tulios/kafkajs#1303).
 */
export async function sendProduce(
  broker: Broker,
  request: RawRequest,
  batches: readonly PartitionBatch[],
): Promise<void> {
  const answered = await sendRaw(broker, request, decodeProduceResponse);
  for (const { topic, partition } of batches) {
    const code = answered.get(`${topic}/${partition}`);
    if (code === undefined) throw new Error(`the broker's answer says nothing of ${topic}/${partition}`);
    throwOnErrorCode(code);
  }
}

function decodeProduceResponse(raw: Buffer): Map<string, number> {
  const codes = new Map<string, number>();
  let at = 0;
  const readInt32 = () => {
    at += 4;
    return raw.readInt32BE(at - 4);
  };
  for (let topics = readInt32(); topics > 0; topics--) {
    const length = raw.readInt16BE(at);
    const topic = raw.toString('utf8', at + 2, at + 2 + length);
    at += 2 + length;
    for (let partitions = readInt32(); partitions > 0; partitions--) {
      const partition = readInt32();
      codes.set(`${topic}/${partition}`, raw.readInt16BE(at));
      at += 2 + 8 + 8 + 8; // error code, base offset, log append time, log start offset
    }
  }
  return codes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([int16(bytes.length), bytes]);
}

function int16(value: number): Buffer {
  const buffer = Buffer.alloc(2);
  buffer.writeInt16BE(value);
  return buffer;
}

function int32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeInt32BE(value);
  return buffer;
}
