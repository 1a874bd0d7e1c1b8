/**
 * Is the broker ready to serve? Asked in its own protocol, without a client library: a Metadata request, answered with at least one
 * broker. An open port is not enough: a broker accepts connections seconds before it is unfenced and named in the metadata.
 * Source: the Kafka protocol guide, Metadata request version 4 and its response.
 */
import { connect } from 'node:net';

const METADATA = 3;
const VERSION = 4;

/** Resolves with the number of brokers; rejects when there is none, no answer within `timeoutMs`, or no connection. */
export async function probeKafka(host: string, port: number, timeoutMs: number): Promise<number> {
  const response = await exchange(host, port, metadataRequest(), timeoutMs);
  const brokers = response.readInt32BE(8); // after correlation id and throttle time
  if (brokers < 1) throw new Error('Kafka answers, but no broker is ready');
  return brokers;
}

/** Header version 1 (api key, version, correlation id, client id), then no topics and no automatic creation. */
function metadataRequest(): Buffer {
  const client = 'ferry-probe';
  const body = Buffer.alloc(4 + 2 + 2 + 4 + 2 + client.length + 4 + 1);
  let at = body.writeInt32BE(body.length - 4);
  at = body.writeInt16BE(METADATA, at);
  at = body.writeInt16BE(VERSION, at);
  at = body.writeInt32BE(1, at);
  at = body.writeInt16BE(client.length, at);
  at += body.write(client, at);
  at = body.writeInt32BE(0, at);
  body.writeInt8(0, at);
  return body;
}

/** Sends one request and resolves with the whole response, its length prefix removed. */
function exchange(host: string, port: number, request: Buffer, timeoutMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: timeoutMs });
    let received = Buffer.alloc(0);
    const fail = (error: Error) => {
      socket.destroy();
      reject(error);
    };
    socket.on('connect', () => socket.write(request));
    socket.on('timeout', () => fail(new Error('Kafka did not answer')));
    socket.on('error', fail);
    socket.on('close', () => reject(new Error('Kafka closed the connection')));
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 4 || received.length < 4 + received.readInt32BE(0)) return;
      socket.end();
      resolve(received.subarray(4));
    });
  });
}
