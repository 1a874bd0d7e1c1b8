/** The embedded Kafka: one node that is broker and controller (KRaft), tuned for quick transactions on one machine. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { FerryError } from '../kernel/errors.ts';
import type { Home } from './home.ts';
import { archiveArguments, type JavaParts } from './java-parts.ts';
import { probeKafka, wakeCoordinators } from './kafka-probe.ts';
import type { PartRecipe } from './part.ts';

const run = promisify(execFile);

const LOG_CONFIGURATION = resolve(import.meta.dirname, '../../docker/embedded/kafka-log4j2.xml');

/**
 * The quick compiler and the simple collector alone, and a bounded heap: other parts share the machine, and a broker that lives for minutes
 * does not earn back what the optimising compiler costs (measured in the demo: 26 to 29 s of CPU instead of 40).
 */
const JVM = ['-Xms128m', '-Xmx512m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:+ExitOnOutOfMemoryError'];

export function kafkaRecipe(home: Home, port: number, controllerPort: number, parts: JavaParts): PartRecipe {
  const directory = home.path('kafka');
  const settings = join(directory, 'server.properties');
  return {
    name: 'kafka',
    port,
    prepare: async () => {
      mkdirSync(directory, { recursive: true });
      writeFileSync(settings, properties(directory, port, controllerPort));
      if (!existsSync(join(directory, 'data'))) await format(parts, directory);
    },
    command: () => ({
      home,
      command: parts.java,
      args: [...JVM, `-Dlog4j2.configurationFile=${LOG_CONFIGURATION}`, ...classes(parts), 'kafka.Kafka', settings],
      cwd: directory,
    }),
    probe: async () => {
      await probeKafka('127.0.0.1', port, 2_000);
      void wakeCoordinators('127.0.0.1', port, 10_000).catch(() => {}); // whoever needs them waits for them
    },
    readyTimeoutMs: 90_000,
    startAttempts: 1,
    stopSignals: [['SIGTERM', 20_000]],
  };
}

function classes(parts: JavaParts): string[] {
  return [...archiveArguments(parts, 'kafka'), '-cp', join(parts.kafka, '*')];
}

/** Storage of a cluster of its own, made aside and then renamed: formatted storage is whole or absent. */
async function format(parts: JavaParts, directory: string): Promise<void> {
  if (!existsSync(parts.formatted)) await formatFirst(parts, directory);
  const draft = join(directory, 'draft');
  rmSync(draft, { recursive: true, force: true });
  cpSync(parts.formatted, draft, { recursive: true });
  const meta = join(draft, 'meta.properties');
  const text = readFileSync(meta, 'utf8');
  writeFileSync(
    meta,
    text.replaceAll(/^(cluster|directory)\.id=.*$/gm, (_, name) => `${name}.id=${randomId()}`),
  );
  renameSync(draft, join(directory, 'data'));
}

/**
 * Has Kafka format storage, to be copied from then on: that takes a JVM (a second of CPU), and what it writes differs in nothing but two ids.
 * The metadata version and the features stand in a snapshot beside them.
 */
async function formatFirst(parts: JavaParts, directory: string): Promise<void> {
  const draft = join(directory, 'first');
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft);
  const settings = join(draft, 'format.properties');
  writeFileSync(settings, properties(draft, 9092, 9093));
  const options = ['-Xmx128m', '-XX:TieredStopAtLevel=1', `-Dlog4j2.configurationFile=${LOG_CONFIGURATION}`];
  // One id in 64 begins with a hyphen; as a word of its own it would be taken for an option.
  const tool = ['kafka.tools.StorageTool', 'format', `--cluster-id=${randomId()}`, '-c', settings];
  try {
    await run(parts.java, [...options, ...classes(parts), ...tool]);
  } catch (cause) {
    const output = String((cause as { stderr?: string }).stderr ?? '').trim();
    throw new FerryError('PART_UNREACHABLE', `formatting Kafka's storage failed: ${output.slice(-500)}`, { cause });
  }
  const copy = `${parts.formatted}.${randomId()}.tmp`; // beside it: the home may be on another disk
  cpSync(join(draft, 'data'), copy, { recursive: true });
  try {
    renameSync(copy, parts.formatted);
  } catch (error) {
    rmSync(copy, { recursive: true, force: true });
    if (!existsSync(parts.formatted)) throw error; // else somebody else was faster
  }
  rmSync(draft, { recursive: true, force: true });
}

/** As Kafka's own (org.apache.kafka.common.Uuid): 16 bytes in base64url. */
function randomId(): string {
  return randomBytes(16).toString('base64url');
}

function properties(directory: string, port: number, controllerPort: number): string {
  const settings: Record<string, string | number | boolean> = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    'controller.listener.names': 'CONTROLLER',
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'log.dirs': join(directory, 'data'),
    // one node: everything is replicated once, and internal topics need few partitions
    'default.replication.factor': 1,
    'min.insync.replicas': 1,
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 3,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'transaction.state.log.num.partitions': 3,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    'share.coordinator.state.topic.num.partitions': 1,
    // topics are made on purpose, with their partitions, never by a typing mistake
    'auto.create.topics.enable': false,
    // a development broker: consumers join at once, dead transactions are noticed within a second
    'group.initial.rebalance.delay.ms': 0,
    'group.min.session.timeout.ms': 500,
    'transaction.abort.timed.out.transaction.cleanup.interval.ms': 1_000,
    'transaction.max.timeout.ms': 60_000,
    // a broker that was killed may register again only when its last session is over: this is what its restart waits for
    'broker.session.timeout.ms': 4_000,
    'broker.heartbeat.interval.ms': 500,
    'log.segment.bytes': 67_108_864,
    'log.cleaner.dedupe.buffer.size': 8_388_608,
    'num.network.threads': 2,
    'num.io.threads': 4,
    'num.recovery.threads.per.data.dir': 2,
  };
  return `${Object.entries(settings)
    .map(([name, value]) => `${name}=${value}`)
    .join('\n')}\n`;
}
