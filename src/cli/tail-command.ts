/** `./ferry tail`: committed events as they arrive, decoded, with key, type and position. */
import type { Config } from '../config/variables.ts';
import type { EventDecoder } from '../events/decoder.ts';
import { HEADER } from '../events/record.ts';
import { deadLetterTopic, topicRoutes } from '../events/routes.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import { sleep } from '../kernel/deadline.ts';
import { coerceError } from '../kernel/errors.ts';
import { stringifyExactJson } from '../kernel/exact-json.ts';
import { type EventLog, openEventLog } from './event-log.ts';
import { type CommonOptions, type Session, sessionConfig } from './session.ts';
import { onStopSignal } from './signals.ts';
import { bold, cyan, dim, red } from './terminal.ts';

export interface TailOptions extends CommonOptions {
  /** One topic, as it is named in Kafka; without it the configured topics and their dead letters. */
  readonly topic?: string;
  readonly fromBeginning?: boolean;
}

/** A topic comes to be with its first event. */
const TOPIC_POLL_MS = 500;

export async function runTail(session: Session, options: TailOptions): Promise<void> {
  const config = sessionConfig(session);
  const events = await openEventLog(config);
  const stop = onStopSignal();
  const topics = options.topic === undefined ? configuredTopics(config) : [options.topic];
  session.terminal.note(dim(`reading ${topics.join(', ')} (Ctrl-C ends)`));
  try {
    await Promise.all(topics.map((topic) => followTopic(session, events, topic, options, stop.signal)));
  } finally {
    stop.release();
    await events.close();
  }
}

function configuredTopics(config: Config): string[] {
  return topicRoutes(config)
    .configured()
    .flatMap((topic) => [topic, deadLetterTopic(topic)]);
}

async function followTopic(
  session: Session,
  events: EventLog,
  topic: string,
  { fromBeginning = false }: TailOptions,
  signal: AbortSignal,
): Promise<void> {
  let isNew = false;
  while (!signal.aborted && !(await events.topicExists(topic))) {
    isNew = true;
    await sleep(TOPIC_POLL_MS, signal);
  }
  if (signal.aborted) return;
  // everything in a topic that was made while we waited has arrived since
  for await (const record of events.log.follow([topic], fromBeginning || isNew, signal)) {
    const shown = await describeRecord(record, events.decoder);
    session.terminal.print(session.json ? stringifyExactJson(shown) : eventText(shown));
  }
}

export interface ShownEvent {
  readonly topic: string;
  readonly partition: number;
  readonly offset: string;
  readonly key: string | null;
  readonly id: string | null;
  readonly type: string | null;
  readonly lsn: string | null;
  readonly seq: number | null;
  readonly time: string | null;
  readonly schemaId: number | null;
  readonly value: unknown;
  /** Why the value could not be decoded, or why the event is a dead letter. */
  readonly error: string | null;
}

export async function describeRecord(record: LogRecord, decoder: EventDecoder): Promise<ShownEvent> {
  const { headers } = record;
  const deadLetter = headers.error_code === undefined ? null : `${headers.error_code}: ${headers.error_message}`;
  const decoded =
    record.value === null || deadLetter !== null
      ? null
      : await decoder.decode(record.value).catch((error: unknown) => coerceError(error));
  const failed = decoded instanceof Error ? decoded.message : null;
  const readable = decoded === null || decoded instanceof Error ? null : decoded;
  return {
    topic: record.topic,
    partition: record.partition,
    offset: String(record.offset),
    key: record.key?.toString() ?? null,
    id: headers[HEADER.id] ?? null,
    type: headers[HEADER.type] ?? readable?.type ?? null,
    lsn: headers[HEADER.lsn] ?? null,
    seq: headers[HEADER.seq] === undefined ? null : Number(headers[HEADER.seq]),
    time: headers[HEADER.time] ?? null,
    schemaId: readable?.schemaId ?? null,
    value: readable?.value ?? null,
    error: deadLetter ?? failed,
  };
}

function eventText(event: ShownEvent): string {
  const place = `${event.topic}/${event.partition}@${event.offset}`;
  const head = `${dim(event.time ?? '')} ${bold(event.type ?? '(no type)')} ${cyan(event.key ?? '(no key)')}`;
  const body = event.error === null ? stringifyExactJson(event.value) : red(event.error);
  return `${head} ${dim(`${place} lsn ${event.lsn ?? '?'} seq ${event.seq ?? '?'}`)}\n  ${body}`;
}
