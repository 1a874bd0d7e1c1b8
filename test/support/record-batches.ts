/** Record batches as kafkajs reads them: the judge of what Ferry's own encoder writes. */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const DecoderClass = require('kafkajs/src/protocol/decoder') as new (bytes: Buffer) => object;
const decodeBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder') as (decoder: object) => Promise<KafkaBatch>;

interface KafkaRecord {
  readonly offset: string;
  readonly timestamp: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, Buffer>>;
}

interface KafkaBatch {
  readonly lastOffsetDelta: number;
  readonly producerId: string;
  readonly producerEpoch: number;
  readonly firstSequence: number;
  readonly inTransaction: boolean;
  readonly isControlBatch: boolean;
  readonly firstTimestamp: string;
  readonly maxTimestamp: string;
  readonly records: readonly KafkaRecord[];
}

/** Decodes one whole batch. */
export function decodeRecordBatch(bytes: Buffer): Promise<KafkaBatch> {
  return decodeBatch(new DecoderClass(bytes));
}

export function textOf(bytes: Buffer | null): string | null {
  return bytes === null ? null : bytes.toString();
}
