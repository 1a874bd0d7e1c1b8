import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FerryError } from '../../../src/kernel/errors.ts';
import { clientConfig, isLoopback, timestampFromPostgres } from '../../../src/postgres/connection.ts';

const of = (DATABASE_URL: string | undefined, POSTGRES_TLS: 'auto' | 'on' | 'off' = 'auto') =>
  clientConfig({ ...(DATABASE_URL === undefined ? {} : { DATABASE_URL }), POSTGRES_TLS }, 'test');

const refuses = (url: string | undefined, message: RegExp) =>
  assert.throws(
    () => of(url),
    (error: FerryError) =>
      error.code === 'CONFIG_INVALID' && message.test(error.message) && !/sesame/.test(error.message),
  );

describe('clientConfig', () => {
  it('takes the parts of the URL apart, escapes undone', () => {
    const { host, port, user, password, database, application_name } = of(
      'postgres://a%40b:se%2Fsame@db.example:6000/x%20y',
    );
    assert.deepEqual(
      { host, port, user, password, database, application_name },
      { host: 'db.example', port: 6000, user: 'a@b', password: 'se/same', database: 'x y', application_name: 'test' },
    );
  });

  it('verifies TLS to every host that is not this one', () => {
    assert.deepEqual(of('postgres://db.example/x').ssl, { rejectUnauthorized: true });
    assert.deepEqual(of('postgres://127.0.0.1/x', 'on').ssl, { rejectUnauthorized: true });
    for (const local of ['localhost', '127.0.0.1', '127.9.9.9', '[::1]'])
      assert.equal(of(`postgres://${local}/x`).ssl, false);
    assert.equal(of('postgres://db.example/x', 'off').ssl, false);
  });

  it('takes a name that only begins like a loopback address for a remote one', () => {
    for (const host of ['127.0.0.1.example', 'localhost.example', '128.0.0.1']) assert.equal(isLoopback(host), false);
  });

  it('knows sockets by libpq’s host parameter', () => {
    const { host, database, ssl } = of('postgres://me@/x?host=/run/postgresql');
    assert.deepEqual({ host, database, ssl }, { host: '/run/postgresql', database: 'x', ssl: false });
  });

  it('keeps the caller’s options after its own', () => {
    assert.equal(
      of('postgres://localhost/x?options=-c%20wal_sender_timeout=10s').options,
      '-c timezone=UTC -c datestyle=ISO -c bytea_output=hex -c wal_sender_timeout=10s',
    );
  });

  it('refuses what it would have to ignore, without showing the password', () => {
    refuses(undefined, /DATABASE_URL/);
    refuses('mysql://u:sesame@localhost/x', /postgres:\/\//);
    refuses('postgres://u:sesame@db.example/x?sslmode=disable', /POSTGRES_TLS/);
    refuses('postgres://u:sesame@db.example/x?target_session_attrs=any', /target_session_attrs/);
    refuses('postgres://u:sesame@db.example/x?sslrootcert=/nowhere.pem', /\/nowhere\.pem/);
  });
});

describe('values read from Postgres', () => {
  const read = (oid: number) => of('postgres://localhost/x').types?.getTypeParser(oid, 'text');

  it('gives int8 as bigint and timestamptz with every microsecond', () => {
    assert.equal(read(20)('9223372036854775807'), 9223372036854775807n);
    assert.equal(read(1184)('2026-01-02 03:04:05.6+00'), '2026-01-02T03:04:05.600000Z');
    assert.equal(timestampFromPostgres('2026-01-02 03:04:05+00'), '2026-01-02T03:04:05.000000Z');
    assert.equal(timestampFromPostgres('infinity'), 'infinity');
  });
});
