/** The embedded parts themselves: readiness, restarts on the same port and data, and what is left when their parent is killed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { Kafka, logLevel } from 'kafkajs';
import { runSql } from '../../src/cli/sql-runner.ts';
import { Home } from '../../src/embedded/home.ts';
import { archiveArguments, resolveJavaParts } from '../../src/embedded/java-parts.ts';
import { probeKafka } from '../../src/embedded/kafka-probe.ts';
import { portOf } from '../../src/embedded/ports.ts';
import { throughSocket } from '../../src/embedded/postgres.ts';
import { isStillRunning } from '../../src/embedded/process-identity.ts';
import { type EmbeddedStack, type EmbeddedStackOptions, startEmbeddedStack } from '../../src/embedded/stack.ts';
import { FerryError } from '../../src/kernel/errors.ts';
import { waitUntil } from '../support/signals.ts';

const REPOSITORY = resolve(import.meta.dirname, '../..');
const root = join(REPOSITORY, '.ferry-cache/test-homes', `embedded-${process.pid}`);
mkdirSync(root, { recursive: true });
const parents: ChildProcess[] = [];
after(() => {
  for (const parent of parents) parent.kill('SIGKILL');
  rmSync(root, { recursive: true, force: true });
});

const ANY_PORT = { postgres: 0, kafka: 0, registry: 0 };

function options(home: Home, changes: Partial<EmbeddedStackOptions> = {}): EmbeddedStackOptions {
  return { home, postgres: true, kafka: false, registry: false, ports: ANY_PORT, sql: runSql, ...changes };
}

describe('a whole stack', () => {
  const home = new Home(join(root, 'whole'));
  const deaths: string[] = [];
  let stack: EmbeddedStack;
  before(async () => {
    await home.claim();
    const onDeath: EmbeddedStackOptions['onDeath'] = (part, exit) => deaths.push(`${part.name} ${exit.signal}`);
    stack = await startEmbeddedStack(options(home, { kafka: true, registry: true, paymentProvider: true, onDeath }));
  });
  after(async () => {
    await stack.stop();
    home.release();
  });

  test('is ready in every part when it says so, and recorded', async () => {
    const rows = await runSql(stack.postgresUrl ?? '', `select current_setting('wal_level') as level`);
    assert.deepEqual(rows, [{ level: 'logical' }]);
    assert.equal(await probeKafka('127.0.0.1', portOf(stack.kafkaBrokers) ?? 0, 5_000), 1);
    assert.equal((await fetch(`${stack.registryUrl}/subjects`)).status, 200);
    assert.equal((await fetch(`${stack.paymentProviderUrl}/charges`)).status, 200);
    assert.deepEqual(
      home
        .processes()
        .map(({ name }) => name)
        .sort(),
      ['kafka', 'payment-provider', 'postgres', 'registry'],
    );
    assert.ok(home.processes().every(isStillRunning));
  });

  test('has made the topics of Kafka’s coordinators, which the first who needs one would wait for', async () => {
    const admin = new Kafka({ brokers: [stack.kafkaBrokers ?? ''], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    try {
      const isThere = async () => {
        const topics = await admin.listTopics();
        return ['__consumer_offsets', '__transaction_state'].every((topic) => topics.includes(topic));
      };
      await waitUntil('the topics', isThere);
    } finally {
      await admin.disconnect();
    }
  });

  test('has Kafka’s storage copied from what was formatted once, under ids of its own', async () => {
    const { formatted } = await resolveJavaParts(() => {});
    const metaOf = (directory: string) =>
      Object.fromEntries(
        [...readFileSync(join(directory, 'meta.properties'), 'utf8').matchAll(/^(\S+)=(\S+)$/gm)].map(
          ([, name, value]) => [name, value],
        ),
      );
    const [first, own] = [metaOf(formatted), metaOf(home.path('kafka', 'data'))];
    assert.deepEqual(Object.keys(own).sort(), ['cluster.id', 'directory.id', 'node.id', 'version']);
    assert.deepEqual([own['node.id'], own.version], [first['node.id'], first.version]);
    for (const id of ['cluster.id', 'directory.id']) assert.notEqual(own[id], first[id]);
  });

  test('starts Java with classes that were archived once', async () => {
    const java = await resolveJavaParts(() => {});
    for (const part of ['kafka', 'registry'] as const) {
      const [argument = assert.fail(`${part} has none`), ...others] = archiveArguments(java, part);
      assert.match(argument, /^-XX:SharedArchiveFile=/);
      assert.deepEqual(others, []);
      const log = readFileSync(home.path('logs', `${part}.log`), 'utf8');
      assert.doesNotMatch(log, /\[cds|shared class archive|SharedArchiveFile/i); // what Java says when it cannot use it
    }
  });

  test('a part that is stopped or killed comes back on its port, with its data, and is not reported as a death', async () => {
    const { postgresUrl = '', registryUrl } = stack;
    await runSql(postgresUrl, 'create table kept as select 42 as answer');
    const subject = `${registryUrl}/subjects/kept/versions`;
    const schema = JSON.stringify({ schema: '{"type":"record","name":"Kept","fields":[]}' });
    const headers = { 'content-type': 'application/vnd.schemaregistry.v1+json' };
    assert.equal((await fetch(subject, { method: 'POST', body: schema, headers })).status, 200);
    const cancelled = `${stack.paymentProviderUrl}/charges/kept`;
    assert.equal((await fetch(`${cancelled}/cancel`, { method: 'POST' })).status, 200);
    for (const name of ['payment-provider', 'registry', 'kafka', 'postgres'] as const) {
      const pid = stack.part(name).pid;
      if (name === 'kafka') await stack.part(name).stop();
      else await stack.part(name).kill();
      assert.equal(stack.part(name).running, false);
      await stack.part(name).start();
      assert.notEqual(stack.part(name).pid, pid);
    }
    assert.deepEqual(await runSql(postgresUrl, 'select answer from kept'), [{ answer: 42 }]);
    assert.equal((await fetch(cancelled)).status, 200);
    // the registry may first have to notice that its connections went with the old server
    let versions = await fetch(subject);
    while (versions.status === 500) versions = await fetch(subject);
    assert.deepEqual(await versions.json(), [1]);
    assert.equal(await probeKafka('127.0.0.1', portOf(stack.kafkaBrokers) ?? 0, 5_000), 1);
    assert.deepEqual(deaths, []);
  });

  test('a part that ends by itself is reported', async () => {
    const { pid } = stack.part('registry');
    assert.ok(pid !== undefined);
    process.kill(pid, 'SIGKILL');
    while (deaths.length === 0) await new Promise((done) => setTimeout(done, 20));
    assert.deepEqual(deaths, ['registry SIGKILL']);
  });
});

describe('the socket of Postgres', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ferry-'));
  after(() => rmSync(directory, { recursive: true, force: true }));

  const start = async (t: TestContext, home: Home) => {
    await home.claim();
    const { stop, postgresUrl = '' } = await startEmbeddedStack(options(home));
    t.after(async () => {
      await stop();
      home.release();
    });
    return postgresUrl;
  };
  const IS_TCP = 'select inet_client_addr() is not null as tcp';

  test('takes what the port takes', async (t) => {
    const home = new Home(directory);
    const url = await start(t, home);
    assert.deepEqual(await runSql(url, IS_TCP), [{ tcp: true }]);
    assert.deepEqual(await runSql(throughSocket(home, url), IS_TCP), [{ tcp: false }]);
  });

  test('is done without where its path would be too long for one', async (t) => {
    const home = new Home(join(directory, 'long'.repeat(20)));
    const url = await start(t, home);
    assert.deepEqual(await runSql(throughSocket(home, url), IS_TCP), [{ tcp: true }]);
  });
});

describe('a parent that is killed', () => {
  test('leaves processes that the next start finds, ends and replaces, with the data kept', async () => {
    const home = new Home(join(root, 'killed'));
    const { parent, url } = await startInAnotherProcess(home);
    await runSql(url, 'create table kept as select 42 as answer');
    const left = home.processes();
    assert.equal(left.length, 1);
    parent.kill('SIGKILL');
    await once(parent, 'exit');
    assert.ok(left.every(isStillRunning), 'the server outlives its parent');
    assert.equal(home.abandoned, true);

    await home.claim();
    assert.ok(!left.some(isStillRunning));
    const stack = await startEmbeddedStack(options(home));
    assert.equal(stack.postgresUrl, url, 'the same port as before');
    assert.deepEqual(await runSql(url, 'select answer from kept'), [{ answer: 42 }]);
    await stack.stop();
    assert.deepEqual(home.processes(), []);
    home.release();
  });
});

describe('a configured port that is taken', () => {
  test('is named with its variable, and nothing is left running', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    const home = new Home(join(root, 'taken'));
    await home.claim();
    try {
      await assert.rejects(
        startEmbeddedStack(options(home, { ports: { ...ANY_PORT, postgres: address.port } })),
        (error) =>
          error instanceof FerryError && error.code === 'PORT_TAKEN' && /EMBEDDED_POSTGRES_PORT/.test(error.message),
      );
      assert.deepEqual(home.processes(), []);
    } finally {
      server.close();
      home.release();
    }
  });
});

/** A Node process that owns the home and runs a Postgres in it; resolves when that is up. */
async function startInAnotherProcess(home: Home): Promise<{ parent: ChildProcess; url: string }> {
  const program = `
    import { runSql } from '${REPOSITORY}/src/cli/sql-runner.ts';
    import { Home } from '${REPOSITORY}/src/embedded/home.ts';
    import { startEmbeddedStack } from '${REPOSITORY}/src/embedded/stack.ts';
    const home = new Home('${home.directory}');
    await home.claim();
    const ports = { postgres: 0, kafka: 0, registry: 0 };
    const stack = await startEmbeddedStack({ home, postgres: true, kafka: false, registry: false, ports, sql: runSql });
    console.log(stack.postgresUrl);
    setInterval(() => {}, 1000);
  `;
  const parent = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  parents.push(parent);
  const [line] = (await once(parent.stdout, 'data')) as [Buffer];
  return { parent, url: line.toString().trim() };
}
