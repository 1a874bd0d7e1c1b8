import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Migration, migrationSets, pendingMigrations, readMigrations } from '../../../src/postgres/migrate.ts';

const migration = (number: number, checksum = `sum ${number}`): Migration => ({
  set: 'ferry',
  number,
  name: `${String(number).padStart(4, '0')}_x.sql`,
  sql: '',
  checksum,
});
const applied = (...numbers: number[]) => new Map(numbers.map((number) => [number, `sum ${number}`]));
const known = [migration(1), migration(10), migration(20)];

describe('pendingMigrations', () => {
  it('gives what is not applied, in order', () => {
    assert.deepEqual(pendingMigrations(known, applied()), known);
    assert.deepEqual(pendingMigrations(known, applied(1, 10)), [migration(20)]);
    assert.deepEqual(pendingMigrations(known, applied(1, 10, 20)), []);
  });

  it('lets an old instance start on a database that a newer one migrated', () => {
    assert.deepEqual(pendingMigrations(known, applied(1, 10, 20, 30)), []);
  });

  it('refuses a changed file, a vanished one, and one that comes too late', () => {
    const changed = { code: 'MIGRATION_CHANGED' };
    assert.throws(() => pendingMigrations([migration(1, 'other')], applied(1)), changed);
    assert.throws(() => pendingMigrations(known, applied(1, 20)), changed);
    assert.throws(() => pendingMigrations([migration(1), migration(20)], applied(1, 10)), changed);
  });
});

describe('readMigrations', () => {
  const inFolder = async (files: Record<string, string>) => {
    const directory = mkdtempSync(join(tmpdir(), 'ferry-migrations-'));
    try {
      mkdirSync(join(directory, 'ferry'));
      for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, 'ferry', name), text);
      return await readMigrations('ferry', directory);
    } finally {
      rmSync(directory, { recursive: true });
    }
  };

  it('orders by number and does not mind line ends', async () => {
    const unix = await inFolder({ '0002_b.sql': 'select 1;\n', '0001_a.sql': 'x' });
    const windows = await inFolder({ '0002_b.sql': 'select 1;\r\n', '0001_a.sql': 'x' });
    assert.deepEqual(
      unix.map(({ name }) => name),
      ['0001_a.sql', '0002_b.sql'],
    );
    assert.equal(unix[1]?.checksum, windows[1]?.checksum);
  });

  it('refuses a number that is taken twice and a name without one', async () => {
    await assert.rejects(inFolder({ '0001_a.sql': '', '0001_b.sql': '' }), /taken twice/);
    await assert.rejects(inFolder({ 'first.sql': '' }), /NNNN_what_it_does/);
  });

  it('can read all sets of this repository, in which no file is twice: one that moved to another set is known by its name and text', async () => {
    const seen = new Set<string>();
    for (const set of migrationSets('commerce')) {
      const migrations = await readMigrations(set);
      assert.ok(migrations.length > 0, set);
      for (const { name, checksum } of migrations) {
        assert.ok(!seen.has(`${name} ${checksum}`), `${set}/${name}`);
        seen.add(`${name} ${checksum}`);
      }
    }
  });
});

describe('migrationSets', () => {
  it('adds the example module on demand', () => {
    assert.deepEqual(migrationSets(''), ['ferry']);
    assert.deepEqual(migrationSets(' commerce ,commerce'), ['ferry', 'commerce', 'payment', 'inventory', 'shipping']);
    assert.throws(() => migrationSets('shop'), { code: 'CONFIG_INVALID' });
  });
});
