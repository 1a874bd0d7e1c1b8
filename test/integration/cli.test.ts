/** The commands that a developer types, one after the other, as the README has them. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { after, describe, test } from 'node:test';
import { Home } from '../../src/embedded/home.ts';
import { isStillRunning } from '../../src/embedded/process-identity.ts';
import { sleep } from '../../src/kernel/deadline.ts';
import { waitUntil } from '../support/signals.ts';

const MAIN = resolve(import.meta.dirname, '../../src/main.ts');
const home = new Home(resolve(import.meta.dirname, '../../.ferry-cache/test-homes', `cli-${process.pid}`));
const running: ChildProcess[] = [];

/** The machine's own environment, without what would point the commands at the stack of this test run. */
const environment = {
  PATH: process.env.PATH,
  HOME: process.env.HOME,
  JAVA_HOME: process.env.JAVA_HOME,
  HTTP_PORT: '0',
};

after(async () => {
  for (const child of running) child.kill('SIGKILL');
  await ferry('down');
  rmSync(home.directory, { recursive: true, force: true });
});

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function ferry(...args: string[]): Promise<Result> {
  return shell(process.execPath, [MAIN, ...args, '--home', home.directory]);
}

function shell(command: string, args: string[]): Promise<Result> {
  return new Promise((done) => {
    execFile(command, args, { env: environment, cwd: '/' }, (error, stdout, stderr) => {
      done({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

interface StatusJson {
  readonly http: { readonly ok: boolean; readonly url: string };
  readonly postgres: { readonly ok: boolean };
  readonly kafka: { readonly ok: boolean; readonly brokers: string };
  readonly registry: { readonly ok: boolean };
  readonly relay: {
    readonly state: string;
    readonly slot: string;
    readonly lagBytes: number;
    readonly checkpointLsn: string;
  };
  readonly counts: { readonly outboxRows: number; readonly pending: number };
}

async function status(): Promise<StatusJson> {
  return JSON.parse((await ferry('status', '--json')).stdout) as StatusJson;
}

/** Polls until the status is as wished; the test's own time-out ends it otherwise. */
async function statusWhen(wished: (current: StatusJson) => boolean): Promise<StatusJson> {
  for (;;) {
    const current = await status();
    if (wished(current)) return current;
  }
}

describe('up, curl, status, tail, down', { timeout: 240_000 }, () => {
  let curls: string[] = [];

  test('up --detach returns when all is up, and prints lines that work as typed', async () => {
    const { code, stdout, stderr } = await ferry('up', '--detach');
    assert.equal(code, 0, stderr);
    curls = stdout.split('\n').filter((line) => /^(source|curl) /.test(line));
    assert.equal(curls.length, 4);
    assert.equal(statSync(home.path('dev.env')).mode & 0o777, 0o600);
  });

  test('a second up says that it is already running', async () => {
    const { code, stderr } = await ferry('up');
    assert.equal(code, 1);
    assert.match(stderr, /is already running \(process \d+, http:\/\/127\.0\.0\.1:\d+\)/);
  });

  test('the curl lines make a customer, place an order and list it', async () => {
    const { code, stdout, stderr } = await shell('bash', ['-ec', curls.join('\necho\n')]);
    assert.equal(code, 0, stderr);
    const [customer, order, list] = stdout
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line));
    assert.equal(customer.id, 'ada');
    assert.equal(order.status, 'placed');
    assert.equal(list.orders[0].id, order.id);
  });

  test('status finds every part, and the relay with nothing left to publish', async () => {
    const current = await statusWhen(({ counts }) => counts.outboxRows > 0 && counts.pending === 0);
    for (const part of ['http', 'postgres', 'kafka', 'registry'] as const) assert.equal(current[part].ok, true, part);
    assert.equal(current.relay.state, 'streaming');
    assert.match(current.relay.slot, /^ferry_/);
    assert.match(current.relay.checkpointLsn, /^[0-9A-F]+\/[0-9A-F]+$/);
    assert.ok(current.relay.lagBytes >= 0);
  });

  test('keys makes a key that works until it is revoked', async () => {
    const { key } = JSON.parse((await ferry('keys', 'create', 'billing', '--role', 'viewer', '--json')).stdout);
    const { keys } = JSON.parse((await ferry('keys', 'list', '--json')).stdout);
    const made = keys.find(({ name }: { name: string }) => name === 'billing');
    assert.equal(made.role, 'viewer');
    const headers = { authorization: `Bearer ${key}` };
    const { url } = (await status()).http;
    assert.equal((await fetch(`${url}/v1/orders`, { headers })).status, 200);
    assert.equal((await ferry('keys', 'revoke', made.id)).code, 0);
    while ((await fetch(`${url}/v1/orders`, { headers })).status !== 401) await sleep(200);
    assert.equal((await ferry('keys', 'revoke', made.id)).code, 1, 'it is revoked already');
    assert.equal((await ferry('keys', 'create')).code, 2);
  });

  test('tail prints the events of all topics, decoded, and ends when it is told', async () => {
    const args = [MAIN, 'tail', '--from-beginning', '--json', '--home', home.directory];
    const tail = spawn(process.execPath, args, { env: environment, stdio: ['ignore', 'pipe', 'inherit'] });
    running.push(tail);
    const events = new Map<string, { value: Record<string, string> }>();
    for await (const line of createInterface({ input: tail.stdout })) {
      const event = JSON.parse(line);
      events.set(event.type, event);
      if (events.has('commerce.OrderPlaced') && events.has('commerce.CreditReserved')) break; // others follow from them
    }
    assert.equal(events.get('commerce.OrderPlaced')?.value.total, '9.00');
    assert.equal(events.get('commerce.CreditReserved')?.value.customerId, 'ada');
    tail.kill('SIGINT');
    assert.deepEqual(await once(tail, 'exit'), [0, null]);
  });

  test('migrate and schemas find nothing to do', async () => {
    assert.match((await ferry('migrate')).stdout, /nothing to do/);
    assert.match((await ferry('schemas', 'push')).stdout, /nothing to do/);
    const { schemas } = JSON.parse((await ferry('schemas', 'check', '--json')).stdout);
    assert.ok(schemas.every((schema: { state: string }) => schema.state === 'registered'));
  });

  test('down leaves nothing running', async () => {
    const processes = home.processes();
    const names = ['kafka', 'payment-provider', 'postgres', 'registry', 'service'];
    assert.deepEqual(processes.map(({ name }) => name).sort(), names);
    assert.equal((await ferry('down')).code, 0);
    assert.ok(!processes.some(isStillRunning));
    assert.equal(home.owner(), undefined);
  });
});

describe('up in the foreground', { timeout: 240_000 }, () => {
  test('keeps its data, starts a dead service again, and stops all on Ctrl-C', async () => {
    const up = spawn(process.execPath, [MAIN, 'up', '--home', home.directory], {
      env: environment,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    running.push(up);
    await once(up.stdout, 'data');
    const before = await statusWhen(({ counts }) => counts.outboxRows > 0);
    const service = home.processes().find(({ name }) => name === 'service');
    assert.ok(service);
    process.kill(service.pid, 'SIGKILL');
    const again = await statusWhen(({ http }) => http.ok && !home.processes().some(({ pid }) => pid === service.pid));
    assert.equal(again.http.url, before.http.url);

    const processes = home.processes();
    up.kill('SIGINT');
    assert.deepEqual(await once(up, 'exit'), [0, null]);
    assert.ok(!processes.some(isStillRunning));
  });

  test('a supervisor that was killed takes its service with it; down clears the rest', async () => {
    assert.equal((await ferry('up', '--detach')).code, 0);
    const processes = home.processes();
    const owner = home.owner();
    assert.ok(owner);
    process.kill(owner.pid, 'SIGKILL');
    const service = processes.find(({ name }) => name === 'service');
    assert.ok(service);
    while (isStillRunning(service)) await new Promise((done) => setTimeout(done, 50));
    assert.equal((await ferry('down')).code, 0);
    assert.ok(!processes.some(isStillRunning));
  });
});

describe('demo', { timeout: 240_000 }, () => {
  const demoHome = new Home(join(home.directory, 'demo'));

  test('proves its orders through killed processes, in one line of JSON, and leaves nothing', async () => {
    const { code, stdout, stderr } = await ferry('demo', '--orders', '100', '--kill-relay', '1', '--json');
    assert.equal(code, 0, stderr);
    const lines = stdout.trim().split('\n');
    assert.equal(lines.length, 1);
    const { seconds, outboxRows, outboxes, published, completed, compensated, ...proof } = JSON.parse(lines[0] ?? '');
    assert.ok(seconds > 0 && outboxRows > 1_000);
    assert.equal(published, outboxRows);
    assert.deepEqual(outboxes, { main: outboxRows });
    assert.ok(completed > 0 && compensated > 0);
    assert.equal(completed + compensated, 96);
    assert.deepEqual(proof, {
      requested: 100,
      orders: 96,
      refused: 4,
      replayedKeys: 5,
      deadLettered: 0,
      missing: 0,
      duplicates: 0,
      outOfOrder: 0,
      undecodable: 0,
      relayKills: 1,
      sagas: 96,
      stuck: 0,
      ledgerImbalance: 0,
      stockMismatch: 0,
      ordersInLimbo: 0,
    });
    assert.deepEqual(demoHome.processes(), []);
    assert.equal(demoHome.owner(), undefined);
  });

  test('a second one says that the first is running; one that is interrupted counts nothing, and leaves nothing', async () => {
    const first = spawn(process.execPath, [MAIN, 'demo', '--orders', '2000', '--json', '--home', home.directory], {
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    running.push(first);
    const said = text(first.stdout);
    await waitUntil('the relay having begun', () => demoHome.processes().some(({ name }) => name === 'relay'));
    const processes = demoHome.processes();
    const { code, stdout, stderr } = await ferry('demo');
    assert.equal(code, 1, stdout);
    assert.match(stderr, new RegExp(`in use by process ${first.pid}.*ALREADY_RUNNING`, 's'));
    assert.equal(first.exitCode, null);
    first.kill('SIGTERM');
    assert.deepEqual(await once(first, 'exit'), [1, null]);
    assert.equal(await said, '');
    assert.ok(!processes.some(isStillRunning));
  });

  test('--keep leaves the stack to other commands, until down or the next demo', async () => {
    const { code, stderr } = await ferry('demo', '--orders', '20', '--kill-relay', '0', '--json', '--keep');
    assert.equal(code, 0, stderr);
    const kept = demoHome.owner();
    assert.ok(kept?.leftBehind);
    const next = await ferry('demo', '--orders', '20', '--kill-relay', '0', '--json');
    assert.equal(next.code, 0, next.stderr);
    assert.ok(!isStillRunning(kept));
    assert.equal(demoHome.owner(), undefined);
  });
});
