/** A broker that answers Ferry's own requests with bytes of the test's, through the call by which kafkajs sends them. */
import type { Broker } from '../../src/kafka/protocol.ts';
import { bytes, int16 } from './bytes.ts';
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

/** A string as Kafka's older requests have it. */
export function text(value: string): Buffer {
  return bytes(int16(Buffer.byteLength(value)), Buffer.from(value));
}
