/** The audit's chain on a real Postgres: linked at once or soon after, whoever writes and dies, and tampering by a superuser that is found. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { AuditSealer, sealAudit } from '../../src/audit/sealer.ts';
import { verifyChain } from '../../src/audit/verify.ts';
import { recordAudit, recordOperation } from '../../src/domain/audit.ts';
import { createPool, type Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { testApi } from '../support/api.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool(stack.config, 'audit-test', { max: 10 });
after(() => pool.end());

const anna = { principal: 'cli:anna', requestId: null };
const entry = (subject: string) => ({ action: 'order.place', subject, eventId: null });
const write = (subject: string, db: Queryable = pool) => recordAudit(db, anna, entry(subject));
const operate = (subject: string, db: Queryable = pool) =>
  recordOperation(db, anna, { ...entry(subject), reason: 'why' });
const subjectsInChain = async () => {
  const { rows } = await pool.query<{ subject: string }>(
    'select subject from ferry.audit_link join ferry.audit on audit.id = audit_id order by position',
  );
  return rows.map(({ subject }) => subject);
};

/** Statements with all triggers off, as a superuser may. */
async function behindTheTriggers(...statements: string[]): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query(
      `set session_replication_role = replica; ${statements.join('; ')}; reset session_replication_role`,
    );
  } finally {
    client.release();
  }
}

/** Each test has a chain of its own. */
const startOver = () =>
  behindTheTriggers('truncate ferry.audit, ferry.audit_link, ferry.audit_unlinked restart identity');

describe('linking', () => {
  beforeEach(startOver);

  test('what operators do is linked when they commit, and not when they do not', async () => {
    await operate('first');
    await assert.rejects(
      transaction(pool, async (tx) => {
        await operate('undone', tx);
        throw new Error('changed my mind');
      }),
      /changed my mind/,
    );
    await operate('second');
    assert.deepEqual(await subjectsInChain(), ['first', 'second']);
    const { broken, head, unlinked } = await verifyChain(pool);
    assert.deepEqual([broken, head.position, unlinked], [null, 2n, 0]);
  });

  test('operators at the same time wait for each other and make one chain', async () => {
    await Promise.all(
      Array.from({ length: 50 }, (_, index) => transaction(pool, (tx) => operate(`saga/${index}`, tx))),
    );
    const { broken, head } = await verifyChain(pool, { pageSize: 7 });
    assert.deepEqual([broken, head.position], [null, 50n]);
  });

  test('rows that are committed out of the order of their ids are each linked once', async () => {
    const slow = await pool.connect();
    await slow.query('begin');
    await write('slow', slow);
    await write('fast');
    assert.equal(await sealAudit(pool, 100), 1);
    assert.equal((await verifyChain(pool)).broken, null, 'a row that is not committed is no gap');
    await slow.query('commit');
    slow.release();
    assert.equal((await verifyChain(pool)).unlinked, 1);
    assert.equal(await sealAudit(pool, 100), 1);
    assert.deepEqual(await subjectsInChain(), ['fast', 'slow']);
    const { broken, unlinked } = await verifyChain(pool);
    assert.deepEqual([broken, unlinked], [null, 0]);
  });

  test('several sealers beside writers, rollbacks and operators link each row once', async () => {
    const sealers = [1, 2, 3].map(() => new AuditSealer({ ...quiet, db: pool, batchSize: 20, pollMs: 5 }));
    for (const sealer of sealers) sealer.start();
    const writer = async (name: number) => {
      for (let index = 0; index < 40; index++) {
        await transaction(pool, async (tx) => {
          await write(`${name}/${index}`, tx);
          if (index % 7 === 0) throw new Error('rolled back');
          if (index % 5 === 0) await operate(`${name}/${index}/operated`, tx);
        }).catch((error: Error) => assert.equal(error.message, 'rolled back'));
      }
    };
    await Promise.all([1, 2, 3, 4].map(writer));
    const waiting = () => verifyChain(pool).then(({ unlinked }) => unlinked);
    await waitUntil('all to be linked', async () => (await waiting()) === 0);
    await Promise.all(sealers.map((sealer) => sealer.stop()));
    const { rows } = await pool.query<{ count: bigint }>('select count(*) from ferry.audit');
    const { broken, head } = await verifyChain(pool);
    assert.deepEqual([broken, head.position], [null, rows[0]?.count]);
    assert.ok(head.position > 100n);
  });

  test('a sealer that dies before its commit leaves everything to the next', async () => {
    for (let index = 0; index < 10; index++) await write(String(index));
    const dying = createPool(stack.config, 'dying', { max: 1, onIdleError: () => {} });
    const client = await dying.connect();
    client.on('error', () => {});
    await client.query('begin');
    assert.equal(await sealAudit(client, 5), 5);
    assert.equal(await sealAudit(pool, 5), 0, 'the chain is the dying one’s until it is dead');
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    await pool.query('select pg_terminate_backend($1, 10000)', [rows[0]?.pid]);
    client.release(true);
    await dying.end();
    assert.equal(await sealAudit(pool, 100), 10);
    const { broken, head } = await verifyChain(pool);
    assert.deepEqual([broken, head.position], [null, 10n]);
  });

  test('no role of a running Ferry writes links or changes rows, but by the functions', async () => {
    await operate('kept');
    const attempts = [
      `insert into ferry.audit_link values (2, 2, now(), sha256('x'))`,
      'update ferry.audit_link set linked_at = now()',
      'delete from ferry.audit_link',
      'delete from ferry.audit_unlinked',
      'insert into ferry.audit_unlinked values (99)',
      `update ferry.audit set reason = 'better'`,
      'delete from ferry.audit',
      'truncate ferry.audit',
      `insert into ferry.audit (at, principal, action, subject) values ('2020-01-01', 'a', 'b', 'c')`,
      `select ferry.link_audit(array[1])`,
    ];
    const client = await pool.connect();
    try {
      for (const role of ['ferry_api', 'ferry_reader', 'ferry_relay', 'ferry_consumer', 'ferry_writer']) {
        await client.query(`set role ${role}`);
        for (const attempt of attempts)
          await assert.rejects(client.query(attempt), { code: '42501' }, `${role}: ${attempt}`);
      }
      await client.query('set role ferry_api');
      await operate('operated', client);
      await write('written', client);
      assert.equal(await sealAudit(client, 100), 1);
    } finally {
      await client.query('reset role');
      client.release();
    }
    // the owner has the rights; the triggers stop a slip of its hand
    for (const attempt of attempts.filter(
      (text) => /^(update|delete|truncate)/.test(text) && !text.includes('unlinked'),
    ))
      await assert.rejects(pool.query(attempt), { code: 'OX003' }, attempt);
    assert.equal((await verifyChain(pool)).broken, null);
  });
});

describe('tampering by a superuser', () => {
  beforeEach(async () => {
    await startOver();
    for (let index = 1; index <= 6; index++) await write(`order/${index}`);
    assert.equal(await sealAudit(pool, 100), 6);
    assert.equal((await verifyChain(pool)).broken, null);
  });
  const found = async () => {
    const { broken } = await verifyChain(pool);
    return broken === null ? null : [broken.kind, broken.position, broken.auditId];
  };

  test('a changed row is named', async () => {
    await behindTheTriggers(`update ferry.audit set reason = 'nothing to see' where id = 4`);
    assert.deepEqual(await found(), ['changed', 4n, '4']);
  });
  test('a deleted row is named', async () => {
    await behindTheTriggers('delete from ferry.audit where id = 3');
    assert.deepEqual(await found(), ['missing', 3n, '3']);
  });
  test('a row that was deleted with its link is named by its place', async () => {
    await behindTheTriggers('delete from ferry.audit where id = 3', 'delete from ferry.audit_link where audit_id = 3');
    assert.deepEqual(await found(), ['missing', 3n, null]);
  });
  test('a row that was slipped in is named, and no sealer takes it for one of ours', async () => {
    await behindTheTriggers(
      `insert into ferry.audit overriding system value select 100, at, 'cli:nobody', action, subject from ferry.audit where id = 3`,
    );
    await sealAudit(pool, 100);
    assert.deepEqual(await found(), ['inserted', null, '100']);
  });
  test('a row that was slipped in with a link of its own is named', async () => {
    await behindTheTriggers(
      `insert into ferry.audit overriding system value select 100, at, 'cli:nobody', action, subject from ferry.audit where id = 3`,
      `insert into ferry.audit_link values (7, 100, clock_timestamp(), sha256('whatever'))`,
    );
    assert.deepEqual(await found(), ['changed', 7n, '100']);
  });
  test('rows that changed places are named', async () => {
    await behindTheTriggers(
      'update ferry.audit_link set audit_id = -audit_id where audit_id in (2, 5)',
      'update ferry.audit_link set audit_id = case audit_id when -2 then 5 else 2 end where audit_id < 0',
    );
    assert.deepEqual(await found(), ['reordered', 2n, '5']);
  });
  test('a row that is written with the triggers on, but not linked yet, and then deleted is named', async () => {
    await write('order/7');
    await behindTheTriggers(`delete from ferry.audit where subject = 'order/7'`);
    await sealAudit(pool, 100);
    assert.deepEqual(await found(), ['missing', null, '7']);
  });
  test('rows whose links were cut off are named', async () => {
    await behindTheTriggers('delete from ferry.audit_link where position > 4');
    assert.deepEqual(await found(), ['inserted', null, '5']);
  });
  test('an end that was cut off whole is seen by who kept the head, as is a chain that was made anew', async () => {
    const { head } = await verifyChain(pool);
    await write('order/7');
    await sealAudit(pool, 100);
    assert.equal((await verifyChain(pool, { notedHead: head.hash, pageSize: 2 })).broken, null, 'a chain may grow');
    await behindTheTriggers('delete from ferry.audit where id > 4', 'delete from ferry.audit_link where position > 4');
    assert.equal(await found(), null, 'the rest is a sound chain');
    const cut = await verifyChain(pool, { notedHead: head.hash });
    assert.deepEqual([cut.broken?.kind, cut.head.position], ['cut-off', 4n]);

    await behindTheTriggers(
      `update ferry.audit set reason = 'nothing to see' where id = 2`,
      'truncate ferry.audit_link',
      'insert into ferry.audit_unlinked select id from ferry.audit',
    );
    await sealAudit(pool, 100);
    assert.equal(await found(), null, 'who may replace everything leaves a sound chain');
    assert.equal((await verifyChain(pool, { notedHead: head.hash })).broken?.kind, 'cut-off');
  });
  test('changed functions in the database hide nothing', async () => {
    const { rows } = await pool.query<{ source: string }>(
      `select pg_get_functiondef('ferry.audit_hash'::regproc) as source`,
    );
    await pool.query(String(rows[0]?.source).replace('sha256(', 'sha224('));
    try {
      await behindTheTriggers(`update ferry.audit set reason = 'nothing to see' where id = 4`);
      assert.deepEqual(await found(), ['changed', 4n, '4']);
    } finally {
      await pool.query(String(rows[0]?.source));
    }
  });
});

describe('people see it', () => {
  const run = promisify(execFile);
  const ferry = (...args: string[]) =>
    run(process.execPath, [join(import.meta.dirname, '../../src/main.ts'), 'audit', ...args], {
      env: { ...process.env, ...stack.environment },
    }).then(
      ({ stdout }) => ({ code: 0, stdout, stderr: '' }),
      (error: { code: number; stdout: string; stderr: string }) => error,
    );
  afterEach(startOver);

  test('over HTTP, filtered and page by page', async () => {
    await startOver();
    const api = await testApi(stack);
    for (let index = 1; index <= 5; index++) await operate(`saga/${index}`);
    await recordOperation(
      pool,
      { principal: 'cli:bert', requestId: null },
      { ...entry('saga/1'), action: 'saga.skip' },
    );
    await write('order/1');
    const list = async (query: string) => {
      const { status, body, text } = await api.request('GET', `/v1/ops/audit?${query}`, { as: 'operator' });
      assert.equal(status, 200, text);
      return body as { rows: Array<Record<string, unknown>>; nextCursor: string | null };
    };
    const subjects = async (query: string) => (await list(query)).rows.map(({ subject }) => subject);
    assert.deepEqual(await subjects('principal=cli:bert'), ['saga/1']);
    assert.deepEqual(await subjects('action=saga.'), ['saga/1']);
    assert.deepEqual(await subjects('action=saga'), []);
    assert.deepEqual(await subjects('subject=saga/1'), ['saga/1', 'saga/1']);
    const [newest] = (await list('limit=1')).rows;
    assert.deepEqual([newest?.subject, newest?.position], ['order/1', null]);
    assert.deepEqual(await subjects(`after=${newest?.at}`), ['order/1']);
    assert.equal((await subjects(`before=${newest?.at}`)).length, 6);
    const pages: unknown[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page = await list(`limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`);
      pages.push(...page.rows.map(({ id }) => id));
      cursor = page.nextCursor;
    }
    assert.deepEqual(pages, [7, 6, 5, 4, 3, 2, 1]);
    for (const as of ['viewer', 'writer'] as const)
      assert.equal((await api.request('GET', '/v1/ops/audit', { as })).status, 403, as);
    assert.equal((await api.request('GET', '/v1/ops/audit?after=yesterday')).status, 422);
  });

  test('on the command line, with an exit code for what does not verify', async () => {
    await startOver();
    for (let index = 1; index <= 3; index++) await operate(`saga/${index}`);
    const listed = JSON.parse((await ferry('list', '--subject', 'saga/2', '--json')).stdout);
    assert.deepEqual(
      listed.rows.map(({ subject, reason }: Record<string, unknown>) => [subject, reason]),
      [['saga/2', 'why']],
    );
    const sound = await ferry('verify');
    assert.equal(sound.code, 0, sound.stderr);
    const hash = /hash ([0-9a-f]{64})/.exec(sound.stdout)?.[1] ?? '';
    await operate('saga/4');
    assert.equal((await ferry('verify', '--head', hash)).code, 0);
    assert.equal((await ferry('verify', '--head', 'abc')).code, 2);
    await behindTheTriggers(`update ferry.audit set subject = 'saga/9' where id = 2`);
    const broken = await ferry('verify');
    assert.equal(broken.code, 1);
    assert.match(broken.stdout, /changed: the row 2 at position 2/);
    const told = JSON.parse((await ferry('verify', '--json')).stdout);
    assert.deepEqual([told.ok, told.broken.kind, told.broken.position, told.head.position], [false, 'changed', '2', 1]);
  });
});
