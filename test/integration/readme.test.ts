/**
 * The blocks of the README and of docs/CONSUMERS.md that are marked `tested`, run as they stand and in their order: shell lines in bash, SQL
 * on the stack's database, TypeScript as a file. Each runs in an empty directory where `./ferry` and `./src` are the repository's and the home
 * is its own.
 */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, describe, test } from 'node:test';
import { runSql } from '../../src/cli/sql-runner.ts';
import { Home } from '../../src/embedded/home.ts';
import { isStillRunning } from '../../src/embedded/process-identity.ts';
import { waitUntil } from '../support/signals.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const directory = join(ROOT, '.ferry-cache/test-homes', `readme-${process.pid}`);
const home = new Home(join(directory, '.ferry'));

type Language = 'sh' | 'sql' | 'ts';

/** The marked blocks of a language, in the document's order. */
function blocks(language: Language, document = 'README.md'): string[] {
  const readme = readFileSync(join(ROOT, document), 'utf8');
  const fence = new RegExp(`^\`\`\`${language} tested\\n([\\s\\S]*?)^\`\`\``, 'gm');
  return [...readme.matchAll(fence)].map(([, text = '']) => text);
}

function blockWith(language: Language, text: string): string {
  const found = blocks(language).find((block) => block.includes(text));
  assert.ok(found, `the README has no ${language} block marked tested with ${text}`);
  return found;
}

/** The machine's own environment, without what would point the commands at the stack of this test run. */
const environment = {
  PATH: `${resolve(process.execPath, '..')}:${process.env.PATH}`,
  HOME: process.env.HOME,
  JAVA_HOME: process.env.JAVA_HOME,
  FERRY_HOME: home.directory,
  HTTP_PORT: '0',
};

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(command: string, args: string[], more: Record<string, string> = {}): Promise<Result> {
  return new Promise((done) => {
    execFile(command, args, { env: { ...environment, ...more }, cwd: directory }, (error, stdout, stderr) => {
      done({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

async function shell(script: string): Promise<string> {
  const { code, stdout, stderr } = await run('bash', ['-euc', script]);
  assert.equal(code, 0, `${script}\n${stderr}`);
  return stdout;
}

/** The documents that curl printed one after the other; each begins with an id, which what `up` prints before them has nowhere. */
function jsonDocuments(output: string): Array<Record<string, unknown>> {
  return output
    .slice(output.indexOf('{"id"'))
    .split(/(?<=\})(?=\{)/)
    .map((text) => JSON.parse(text));
}

interface StatusJson {
  readonly relay: { readonly state: string };
  readonly counts: { readonly outboxRows: number; readonly pending: number; readonly deadLettered: number };
}

/** Polls until all that was written is published; the test's own time-out ends it otherwise. */
async function statusWhenPublished(): Promise<StatusJson> {
  for (;;) {
    const { stdout } = await run('./ferry', ['status', '--json']);
    const status: StatusJson = JSON.parse(stdout);
    if (status.counts.pending === 0) return status;
  }
}

function postgresUrl(): string {
  const { postgresUrl: url } = home.addresses();
  assert.ok(url);
  return url;
}

mkdirSync(directory, { recursive: true });
for (const name of ['ferry', 'src']) symlinkSync(join(ROOT, name), join(directory, name));
after(async () => {
  await run('./ferry', ['down']);
  rmSync(directory, { recursive: true, force: true });
});

describe('the README', { timeout: 240_000 }, () => {
  const eventIds: string[] = [];
  let placedId = '';

  test('every marked block is one that a test below runs', () => {
    assert.deepEqual([blocks('sh').length, blocks('sql').length, blocks('ts').length], [3, 2, 1]);
  });

  test('up and the curl lines: a customer, an order, a list', async () => {
    const output = await shell(blockWith('sh', './ferry up --detach'));
    const [customer, order, list] = jsonDocuments(output);
    assert.equal(customer?.creditLimit, '500.00');
    assert.equal(order?.status, 'placed');
    const listed = (list?.orders ?? []) as Array<{ id: string }>;
    assert.deepEqual(
      listed.map(({ id }) => id),
      [order?.id],
    );
    placedId = String(order?.id);
  });

  test('an event in SQL: ferry.emit in a transaction', async () => {
    const statements = blockWith('sql', 'ferry.emit').split(/;\n/);
    const emit = statements.find((text) => text.includes('ferry.emit'));
    assert.ok(emit && statements[0] === 'begin' && statements.some((text) => text.trim() === 'commit'));
    const [row] = await runSql(postgresUrl(), emit);
    eventIds.push(String(row?.emit));
  });

  test('an event in SQL: a plain insert', async () => {
    const [row] = await runSql(postgresUrl(), blockWith('sql', 'insert into ferry.outbox'));
    eventIds.push(String(row?.id));
  });

  test('an event over HTTP', async () => {
    const [written] = jsonDocuments(await shell(`source .ferry/dev.env\n${blockWith('sh', '/v1/events')}`));
    assert.equal(written?.aggregateVersion, 1);
    eventIds.push(String(written?.id));
  });

  test('an event in TypeScript', async () => {
    writeFileSync(join(directory, 'emit.ts'), blockWith('ts', 'emit'));
    const more = { DATABASE_URL: postgresUrl() };
    const { code, stdout, stderr } = await run(process.execPath, ['emit.ts'], more);
    assert.equal(code, 0, stderr);
    eventIds.push(stdout.trim());
  });

  test('all of them are published, none is a dead letter', async () => {
    const state = `select status from commerce.orders where id = '${placedId}'`;
    const isFulfilled = async () => (await runSql(postgresUrl(), state))[0]?.status === 'completed';
    await waitUntil('the order to be fulfilled', isFulfilled, { deadlineMs: 60_000 });
    const { relay, counts } = await statusWhenPublished();
    assert.equal(relay.state, 'streaming');
    assert.deepEqual([counts.pending, counts.deadLettered], [0, 0]);
    for (const id of eventIds) {
      assert.deepEqual(await runSql(postgresUrl(), `select ferry.outbox_status('${id}')`), [
        { outbox_status: 'published' },
      ]);
    }
    assert.match(await shell(blockWith('sh', './ferry status')), /relay +streaming/);
  });

  test('the consumer of docs/CONSUMERS.md, which ends by a signal', async () => {
    const [source = '', ...others] = blocks('ts', 'docs/CONSUMERS.md');
    assert.equal(others.length, 0);
    await runSql(postgresUrl(), 'create table turnover (currency text primary key, orders int, total numeric)');
    writeFileSync(join(directory, 'consumer.ts'), source);
    const { kafkaBrokers = '', registryUrl = '' } = home.addresses();
    const addresses = { DATABASE_URL: postgresUrl(), KAFKA_BROKERS: kafkaBrokers, SCHEMA_REGISTRY_URL: registryUrl };
    const options = { env: { ...environment, ...addresses }, cwd: directory };
    const consumer = spawn(process.execPath, ['consumer.ts'], options);
    const expected = `select payload->>'currency' as currency, count(*)::int as orders, sum((payload->>'total')::numeric)::text as total
      from ferry.outbox where type = 'commerce.OrderPlaced' group by 1`;
    const kept = 'select currency, orders, total::text from turnover';
    await waitUntil('the consumer to have counted', async () => (await runSql(postgresUrl(), kept)).length > 0);
    const ended = once(consumer, 'exit');
    consumer.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    assert.deepEqual(await runSql(postgresUrl(), kept), await runSql(postgresUrl(), expected));
  });

  test('down leaves nothing running', async () => {
    const processes = home.processes();
    assert.ok(processes.length >= 4);
    assert.equal((await run('./ferry', ['down'])).code, 0);
    assert.ok(!processes.some(isStillRunning));
  });
});
