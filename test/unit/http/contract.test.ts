/** openapi.yaml is the contract: it says exactly what the routes do. `UPDATE_OPENAPI=1 node --test <this file>` writes it anew. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { parse, stringify } from 'yaml';
import { ROLES } from '../../../src/domain/access/api-key.ts';
import { blindEncoder, testServer } from '../../support/http-server.ts';

const FILE = join(import.meta.dirname, '../../../openapi.yaml');
const HEADING =
  '# The contract of the HTTP API. Held by test/unit/http/contract.test.ts, which can also write it anew.\n';

// No request of this file needs the database, so there is none.
const app = await testServer({ databaseUrl: 'postgres://nobody@127.0.0.1:1/none', encoder: blindEncoder });
await app.ready();
after(() => app.close());
const actual = JSON.parse(JSON.stringify(app.swagger()));

describe('openapi.yaml', () => {
  it('says what the routes say, and nothing else', () => {
    if (process.env.UPDATE_OPENAPI === '1') {
      writeFileSync(FILE, HEADING + stringify(actual, { lineWidth: 120, aliasDuplicateObjects: false }));
    }
    assert.deepEqual(parse(readFileSync(FILE, 'utf8')), actual);
  });

  it('states for each operation who may use it and how it can fail', () => {
    const operations = Object.values(actual.paths).flatMap((path) => Object.values(path as object));
    assert.ok(operations.length >= 10);
    for (const operation of operations) {
      assert.ok(operation.operationId && operation.summary, JSON.stringify(operation));
      if (operation.security.length === 0) continue;
      assert.ok(ROLES.includes(operation['x-ferry-role']), operation.operationId);
      for (const status of ['401', '403', '422'])
        assert.ok(operation.responses[status], `${operation.operationId} ${status}`);
    }
  });
});

describe('every route', () => {
  const byHand = (path: string) => path.replace('{id}', '019a0000-0000-7000-8000-000000000000');
  const operations = Object.entries(actual.paths).flatMap(([path, methods]) =>
    Object.entries(methods as Record<string, { 'x-ferry-role'?: string }>).map(([method, operation]) => ({
      path,
      method: method.toUpperCase() as 'GET',
      isPublic: operation['x-ferry-role'] === undefined,
    })),
  );

  it('refuses a request without a key, unless it is public', async () => {
    const open: string[] = [];
    for (const { path, method, isPublic } of operations) {
      const { statusCode, headers } = await app.inject({ method, url: byHand(path) });
      if (isPublic) open.push(path);
      else assert.equal(statusCode, 401, `${method} ${path}`);
      assert.equal(headers['x-content-type-options'], 'nosniff', path);
      assert.ok(headers['x-request-id'], path);
    }
    assert.deepEqual(open.sort(), ['/livez', '/metrics', '/openapi.json', '/readyz']);
  });

  it('states its role, or the server does not start', async () => {
    const other = await testServer({ databaseUrl: 'postgres://nobody@127.0.0.1:1/none', encoder: blindEncoder });
    assert.throws(() => other.get('/free-for-all', () => 'oh'), /states no role/);
    await other.close();
  });
});
