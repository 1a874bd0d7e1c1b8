/** A broker that answers Ferry's own requests with bytes of the test's, through the call by which kafkajs sends them. */
import type { Broker } from '../../src/kafka/protocol.ts';
import { scriptedBroker } from './scripted-cluster.ts';

export interface SentRequest {
  readonly apiKey: number;
  readonly apiVersion: number;
  readonly payload: Buffer;
}

/** `answer` is everything after the correlation id. */
export function rawBroker(answer: (request: SentRequest) => Buffer, others: Partial<Broker> = {}): Broker {
  return scriptedBroker({
    connectionPool: {
      async send({ request, response }) {
        const { apiKey, apiVersion, encode } = request as SentRequest & { encode(): Promise<{ buffer: Buffer }> };
        const { buffer: payload } = await encode();
        return response.parse(await response.decode(answer({ apiKey, apiVersion, payload })));
      },
    },
    ...others,
  });
}

/** Big-endian fields one after the other: `int16(1)`, `text('a')`, … */
export function bytes(...parts: ReadonlyArray<Buffer>): Buffer {
  return Buffer.concat(parts);
}

export function int16(value: number): Buffer {
  const buffer = Buffer.alloc(2);
  buffer.writeInt16BE(value);
  return buffer;
}

export function int32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeInt32BE(value);
  return buffer;
}

export function int64(value: bigint): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigInt64BE(value);
  return buffer;
}

export function text(value: string): Buffer {
  return Buffer.concat([int16(Buffer.byteLength(value)), Buffer.from(value)]);
}
