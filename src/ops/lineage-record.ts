/** An event's record, as far as its headers tell: where it stands, from which transaction, by which schema. */
import { HEADER } from '../events/record.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import { utcTimeOf } from '../kernel/utc-time.ts';

export interface RecordPlace {
  readonly topic: string;
  readonly partition: number;
  readonly offset: string;
  /** When it was published. */
  readonly publishedAt: string;
  /** Of the transaction that wrote the event, and the event's place in it. */
  readonly commitLsn: string | null;
  readonly seq: number | null;
  /** Null for tombstones and dead letters. */
  readonly schema: RecordSchema | null;
  /** Why it is a dead letter; null: it is none. */
  readonly errorCode: string | null;
}

export interface RecordSchema {
  readonly subject: string;
  readonly id: number;
  /** Null: the registry does not know it, or did not answer. */
  readonly version: number | null;
}

type VersionOf = (subject: string, schemaId: number) => Promise<number | null>;

export async function describePlace(record: LogRecord, versionOf: VersionOf): Promise<RecordPlace> {
  const { topic, partition, offset, timestampMs, headers } = record;
  const seq = headers[HEADER.seq];
  return {
    ...{ topic, partition, offset: String(offset), publishedAt: utcTimeOf(timestampMs) },
    commitLsn: headers[HEADER.lsn] ?? null,
    seq: seq === undefined ? null : Number(seq),
    schema: await schemaOf(headers[HEADER.dataSchema], versionOf),
    errorCode: headers.error_code ?? null,
  };
}

/** `schema-registry:<subject>:<id>` */
async function schemaOf(header: string | undefined, versionOf: VersionOf): Promise<RecordSchema | null> {
  const [, subject, digits] = /^schema-registry:(.+):(\d+)$/.exec(header ?? '') ?? [];
  if (subject === undefined || digits === undefined) return null;
  const id = Number(digits);
  return { subject, id, version: await versionOf(subject, id).catch(() => null) };
}
