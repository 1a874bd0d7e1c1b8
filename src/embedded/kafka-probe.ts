/**
 * Is the broker ready to serve? Asked in its own protocol, without a client library: a Metadata request, answered with at least one
 * broker. An open port is not enough: a broker accepts connections seconds before it is unfenced and named in the metadata.
 * Source: the Kafka protocol guide, requests Metadata version 4 and FindCoordinator version 1, and their responses.
 */
import { connect } from 'node:net';

const METADATA = 3;
const FIND_COORDINATOR = 10;
/** Kinds of coordinators. */
const GROUP = 0;
const TRANSACTION = 1;

/** Resolves with the number of brokers; rejects when there is none, no answer within `timeoutMs`, or no connection. */
export async function probeKafka(host: string, port: number, timeoutMs: number): Promise<number> {
  const response = await exchange(host, port, metadataRequest(), timeoutMs);
  const brokers = response.readInt32BE(8); // after correlation id and throttle time
  if (brokers < 1) throw new Error('Kafka answers, but no broker is ready');
  return brokers;
}

/**
 * Asks for the coordinators of groups and of transactions: the first who does makes the broker create the topics that they need, which
 * takes seconds on a fresh one. Rejects as `probeKafka`; the answers do not matter.
 */
export async function wakeCoordinators(host: string, port: number, timeoutMs: number): Promise<void> {
  for (const type of [GROUP, TRANSACTION]) await exchange(host, port, findCoordinatorRequest(type), timeoutMs);
}

/** A key that nobody uses, and of what it is the key. */
function findCoordinatorRequest(type: number): Buffer {
  const key = string('ferry-probe');
  return request(FIND_COORDINATOR, 1, Buffer.concat([key, Buffer.of(type)]));
}

/** No topics and no automatic creation. */
function metadataRequest(): Buffer {
  return request(METADATA, 4, Buffer.from([0, 0, 0, 0, 0]));
}

/** With a header of version 1: api key, version, correlation id, client id. */
function request(apiKey: number, version: number, body: Buffer): Buffer {
  const numbers = Buffer.alloc(8);
  numbers.writeInt16BE(apiKey, 0);
  numbers.writeInt16BE(version, 2);
  numbers.writeInt32BE(1, 4);
  const message = Buffer.concat([numbers, string('ferry-probe'), body]);
  const length = Buffer.alloc(4);
  length.writeInt32BE(message.length);
  return Buffer.concat([length, message]);
}

function string(text: string): Buffer {
  const bytes = Buffer.from(`..${text}`);
  bytes.writeInt16BE(bytes.length - 2);
  return bytes;
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
