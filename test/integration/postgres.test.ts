/** Connecting, transactions, migrations and roles on a real Postgres. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { leftBehind, migrateDatabases } from '../../src/cli/migrate-command.ts';
import { runSql } from '../../src/cli/sql-runner.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { FerryError } from '../../src/kernel/errors.ts';
import { createPool, type Queryable } from '../../src/postgres/connection.ts';
import { migrate, migrationSets } from '../../src/postgres/migrate.ts';
import { partitionDaysAhead } from '../../src/postgres/partitions.ts';
import { ferryErrorOf, sqlStateOf } from '../../src/postgres/sqlstate.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const settings = { DATABASE_URL: stack.databaseUrl, POSTGRES_TLS: 'auto' as const };
const pool = createPool(settings, 'ferry-test', { max: 10 });
after(() => pool.end());

/** A database that nothing has been migrated into. */
async function emptyDatabase(): Promise<string> {
  const name = `empty_${randomBytes(5).toString('hex')}`;
  await runSql(stack.postgresUrl, `create database ${name}`);
  after(() => runSql(stack.postgresUrl, `drop database ${name} with (force)`));
  const url = new URL(stack.postgresUrl);
  url.pathname = `/${name}`;
  return url.toString();
}

describe('migrate', () => {
  it('is safe when several instances start at once, and changes nothing afterwards', async () => {
    const config = {
      DATABASE_URL: await emptyDatabase(),
      POSTGRES_TLS: 'auto' as const,
      PUBLICATION_NAME: 'ferry_other',
      INBOX_RETENTION_DAYS: 30,
    };
    const runs = await Promise.all([1, 2, 3].map(() => migrate(config, migrationSets('commerce'))));
    const working = runs.filter((steps) => steps.length > 0);
    assert.equal(working.length, 1);
    assert.deepEqual(await migrate(config, migrationSets('commerce')), []);
    const publications = await runSql(
      config.DATABASE_URL,
      `select p.pubname, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, t.schemaname || '.' || t.tablename as table
       from pg_publication p join pg_publication_tables t using (pubname)`,
    );
    assert.deepEqual(publications, [
      {
        pubname: 'ferry_other',
        pubinsert: true,
        pubupdate: false,
        pubdelete: false,
        pubtruncate: false,
        pubviaroot: true,
        table: 'ferry.outbox',
      },
    ]);
  });

  it('refuses a database to which another text of a migration was applied', async () => {
    const config = {
      DATABASE_URL: await emptyDatabase(),
      POSTGRES_TLS: 'auto' as const,
      PUBLICATION_NAME: 'ferry_outbox',
      INBOX_RETENTION_DAYS: 30,
    };
    await migrate(config, ['ferry']);
    await runSql(config.DATABASE_URL, `update ferry.schema_migration set checksum = 'other' where number = 1`);
    await assert.rejects(migrate(config, ['ferry']), { code: 'MIGRATION_CHANGED' });
  });

  it('knows a file that has moved to another set, whether or not its new set is asked for', async () => {
    const config = {
      DATABASE_URL: await emptyDatabase(),
      POSTGRES_TLS: 'auto' as const,
      PUBLICATION_NAME: 'ferry_outbox',
      INBOX_RETENTION_DAYS: 30,
    };
    await migrate(config, migrationSets('commerce'));
    const moved = `where name in ('0100_payment.sql', '0110_inventory.sql', '0120_shipping.sql')`;
    await runSql(config.DATABASE_URL, `update ferry.schema_migration set set = 'commerce' ${moved}`);
    assert.deepEqual(await migrate(config, ['ferry', 'commerce', 'inventory', 'shipping']), []);
    const sets = await runSql(config.DATABASE_URL, `select set from ferry.schema_migration ${moved} order by number`);
    assert.deepEqual(sets, [{ set: 'payment' }, { set: 'inventory' }, { set: 'shipping' }]);
  });

  it('gives a participant’s own database its tables and the outbox, and refuses one that is not its own', async () => {
    const main = await emptyDatabase();
    const own = await emptyDatabase();
    const environment = { DATABASE_URL: main, PAYMENT_DATABASE_URL: own, FERRY_MODULES: 'commerce' };
    const steps = await migrateDatabases(loadConfig(environment));
    assert.ok(steps.some(({ database, kind }) => database === 'payment' && kind === 'publication'));
    assert.deepEqual(await migrateDatabases(loadConfig(environment)), []);
    const schemasOf = async (url: string) => {
      const rows = await runSql(
        url,
        `select nspname from pg_namespace where nspname in ('ferry', 'commerce', 'payment', 'inventory', 'shipping') order by 1`,
      );
      return rows.map(({ nspname }) => nspname);
    };
    assert.deepEqual(await schemasOf(main), ['commerce', 'ferry', 'inventory', 'shipping']);
    assert.deepEqual(await schemasOf(own), ['ferry', 'payment']);

    assert.deepEqual(await leftBehind(loadConfig(environment)), []);
    const before = { DATABASE_URL: stack.databaseUrl, PAYMENT_DATABASE_URL: own, FERRY_MODULES: 'commerce' };
    assert.deepEqual(
      await leftBehind(loadConfig(before)),
      [],
      'a main database with the tables of before, and nothing in them',
    );
    const insertPayment = `insert into payment.payments (payment_id, idempotency_key, source_system, status, customer_id, currency, amount)
       values (gen_random_uuid(), 'k', 'test', 'pending', 'ada', 'EUR', 1)`;
    await runSql(stack.databaseUrl, insertPayment);
    assert.deepEqual(await leftBehind(loadConfig(before)), ['payment']);
    await runSql(own, insertPayment);
    assert.deepEqual(await leftBehind(loadConfig(before)), []);

    const alias = new URL(main);
    alias.searchParams.set('options', '-c statement_timeout=0'); // another text, and the same database
    const refused = (more: Record<string, string>, message: RegExp) =>
      assert.rejects(migrateDatabases(loadConfig({ ...environment, ...more })), { code: 'CONFIG_INVALID', message });
    await refused({ PAYMENT_DATABASE_URL: alias.toString() }, /^PAYMENT_DATABASE_URL .* holds the schemas of commerce/);
    await refused(
      { SHIPPING_DATABASE_URL: own.replace('postgres:', 'postgresql:') },
      /^SHIPPING_DATABASE_URL .* payment/,
    );
    await refused({ INVENTORY_DATABASE_URL: 'mysql://x' }, /^INVENTORY_DATABASE_URL must start with postgres/);
    const away = loadConfig({ ...environment, SHIPPING_DATABASE_URL: 'postgres://x@127.0.0.1:1/x' });
    await assert.rejects(migrateDatabases(away), { code: 'PART_UNREACHABLE', message: /SHIPPING_DATABASE_URL/ });
  });

  it('makes partitions for 30 days', async () => {
    assert.equal(await partitionDaysAhead(pool), 30);
  });

  it('says why it cannot get in', async () => {
    const attempt = (change: (url: URL) => void, POSTGRES_TLS: 'auto' | 'on' = 'auto') => {
      const url = new URL(stack.databaseUrl);
      change(url);
      return migrate({ DATABASE_URL: url.toString(), POSTGRES_TLS, PUBLICATION_NAME: 'p', INBOX_RETENTION_DAYS: 30 }, [
        'ferry',
      ]);
    };
    const wrong = async (work: Promise<unknown>, message: RegExp) => {
      await assert.rejects(
        work,
        (error: FerryError) => error.code === 'PART_UNREACHABLE' && message.test(error.message),
      );
    };
    await wrong(
      attempt((url) => {
        url.password = 'sesame';
      }),
      /password/,
    );
    await wrong(
      attempt((url) => {
        url.pathname = '/nowhere';
      }),
      /does not exist/,
    );
    await wrong(
      attempt(() => {}, 'on'),
      /TLS/,
    );
  });

  it('names the database when it cannot be reached', async () => {
    const config = {
      DATABASE_URL: 'postgres://x@127.0.0.1:1/x',
      POSTGRES_TLS: 'auto' as const,
      PUBLICATION_NAME: 'p',
      INBOX_RETENTION_DAYS: 30,
    };
    await assert.rejects(migrate(config, ['ferry']), { code: 'PART_UNREACHABLE' });
  });
});

describe('transaction', () => {
  const counter = async (name: string) => {
    await pool.query('create table if not exists public.counter (name text primary key, value int not null)');
    await pool.query('insert into public.counter values ($1, 0)', [name]);
  };
  const storedValue = async (name: string) =>
    (await pool.query<{ value: number }>('select value from public.counter where name = $1', [name])).rows[0]?.value;
  const increment = async (tx: Queryable, name: string) => {
    const { rows } = await tx.query<{ value: number }>('select value from public.counter where name = $1', [name]);
    await tx.query('update public.counter set value = $2 where name = $1', [name, (rows[0]?.value ?? 0) + 1]);
  };

  it('loses no update when serializable transactions collide', async () => {
    await counter('collide');
    let attempts = 0;
    const work = async (tx: Queryable) => {
      attempts++;
      await increment(tx, 'collide');
    };
    await Promise.all(
      Array.from({ length: 8 }, () => transaction(pool, work, { isolation: 'serializable', retries: 50 })),
    );
    assert.equal(await storedValue('collide'), 8);
    assert.ok(attempts > 8, 'no two transactions collided: the test has shown nothing');
  });

  it('runs the victim of a deadlock again', async () => {
    await Promise.all([counter('left'), counter('right')]).catch(() => counter('right'));
    const bothLocked = Promise.withResolvers<void>();
    let locked = 0;
    // in one statement: read before it waits for the other's lock, a value would be out of date when it is written
    const add = (tx: Queryable, name: string) =>
      tx.query('update public.counter set value = value + 1 where name = $1', [name]);
    const crosswise = (first: string, second: string) =>
      transaction(pool, async (tx) => {
        await add(tx, first);
        if (++locked >= 2) bothLocked.resolve();
        await bothLocked.promise;
        await add(tx, second);
      });
    await Promise.all([crosswise('left', 'right'), crosswise('right', 'left')]);
    assert.deepEqual([await storedValue('left'), await storedValue('right')], [2, 2]);
    assert.ok(locked > 2, 'there was no deadlock');
  });

  it('gives up after its retries', async () => {
    const lost = () => Promise.reject(Object.assign(new Error('lost'), { code: '40001' }));
    await assert.rejects(transaction(pool, lost, { retries: 1 }), { code: 'OVERLOADED' });
  });

  it('does not take a rolled-back transaction for a committed one', async () => {
    await counter('swallowed');
    const careless = transaction(pool, async (tx) => {
      await increment(tx, 'swallowed');
      await tx.query('select 1/0').catch(() => {});
    });
    await assert.rejects(careless, /nothing was written/);
    assert.equal(await storedValue('swallowed'), 0);
  });

  it('prepares its statements once on a connection, and begins anew where a migration has changed what they give', async () => {
    const alone = createPool(settings, 'ferry-test', { max: 1 });
    after(() => alone.end());
    await pool.query('create table public.growing as select 1 as id, 7::int as value');
    let attempts = 0;
    const read = () =>
      transaction(alone, async (tx) => {
        attempts++;
        const text = 'select value from public.growing where id = $1';
        const { rows } = await tx.query<{ value: unknown }>(text, [1]);
        const { rows: plans } = await tx.query<{ uses: number }>(
          'select (generic_plans + custom_plans)::int as uses from pg_prepared_statements where statement = $1',
          [text],
        );
        return { value: rows[0]?.value, uses: plans[0]?.uses };
      });
    assert.deepEqual(await read(), { value: 7, uses: 1 });
    assert.deepEqual(await read(), { value: 7, uses: 2 });
    await pool.query('alter table public.growing alter column value type text');
    assert.deepEqual(await read(), { value: '7', uses: 1 });
    assert.equal(attempts, 4, 'the outdated plan failed once, on its connection');
  });

  it('hands no connection on that broke in the middle', async () => {
    const alone = createPool(settings, 'ferry-test', { max: 1 });
    after(() => alone.end());
    const broken = transaction(alone, async (tx) => {
      await tx.query('select pg_terminate_backend(pg_backend_pid())');
    });
    await assert.rejects(broken, (error) => ferryErrorOf(error)?.code === 'PART_UNREACHABLE');
    assert.equal(await transaction(alone, async (tx) => (await tx.query('select 1')).rowCount), 1);
  });
});

describe('group roles', () => {
  /** A login that is a member of one group and has nothing else. */
  async function memberOf(group: string): Promise<Queryable> {
    const name = `member_${randomBytes(5).toString('hex')}`;
    const password = randomBytes(12).toString('hex');
    await pool.query(`create role ${name} login password '${password}' in role ${group}`);
    const url = new URL(stack.databaseUrl);
    url.username = name;
    url.password = password;
    const member = createPool({ DATABASE_URL: url.toString(), POSTGRES_TLS: 'auto' }, 'ferry-test', { max: 1 });
    after(async () => {
      await member.end();
      await pool.query(`drop role ${name}`);
    });
    return member;
  }
  const denied = (error: unknown) => sqlStateOf(error) === '42501';
  const INSERT = `insert into ferry.outbox (aggregatetype, aggregateid, type, payload) values ('order', '1', 'a.B', '{}')`;

  it('let a writer write events, and nothing else', async () => {
    const writer = await memberOf('ferry_writer');
    await writer.query(`select ferry.emit('order', '1', 'a.B', '{}')`);
    await writer.query(INSERT);
    await writer.query(`select ferry.next_aggregate_version('order', 'of-a-writer')`);
    const forbidden = [
      'select payload from ferry.outbox',
      `update ferry.outbox set type = 'x'`,
      'delete from ferry.outbox',
      'truncate ferry.outbox',
      INSERT.replace('(aggregatetype', '(seq, aggregatetype').replace(`('order'`, `(1, 'order'`),
      INSERT.replace('(aggregatetype', '(recorded_at, aggregatetype').replace(`('order'`, `(now(), 'order'`),
      `select setval('ferry.outbox_seq', 1)`,
      'select ferry.ensure_partitions(30)',
      'select * from ferry.idempotency_key',
      'select * from ferry.api_key',
      'select * from ferry.secret',
      'update ferry.aggregate set version = 1',
      'alter table ferry.outbox disable trigger all',
    ];
    for (const statement of forbidden) await assert.rejects(writer.query(statement), denied, statement);
  });

  it('keep partitions from being written around the root', async () => {
    const writer = await memberOf('ferry_writer');
    const { rows } = await pool.query<{ partition: string }>('select partition::text from ferry.outbox_day limit 1');
    const direct = INSERT.replace('ferry.outbox', rows[0]?.partition ?? '');
    await assert.rejects(writer.query(direct), denied);
  });

  it('let a reader read, and nothing else', async () => {
    const reader = await memberOf('ferry_reader');
    await reader.query('select * from ferry.outbox limit 1');
    await reader.query('select ferry.outbox_status(ferry.uuidv7())').catch(() => {});
    for (const statement of [INSERT, `select ferry.emit('order', '1', 'a.B', '{}')`, 'select * from ferry.api_key']) {
      await assert.rejects(reader.query(statement), denied, statement);
    }
  });

  it('let strangers do nothing', async () => {
    const stranger = await memberOf('pg_monitor');
    for (const statement of [INSERT, `select ferry.emit('order', '1', 'a.B', '{}')`, 'select ferry.uuidv7()']) {
      await assert.rejects(stranger.query(statement), denied, statement);
    }
  });
});
