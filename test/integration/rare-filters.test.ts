/** Lists filtered by something rare, in tables that grow for ever: they read what they find, not everything that there is. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { listAudit } from '../../src/ops/audit-log.ts';
import { listSagas } from '../../src/ops/sagas.ts';
import { createPool, type Queryable } from '../../src/postgres/connection.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool(stack.config, 'rare-filters');
after(() => pool.end());

const ROWS = 50_000;
/** Of the thousands that each table has. */
const FEW_PAGES = 50;

before(async () => {
  await pool.query(
    `insert into ferry.saga_definition (name, version, checksum) values ('trip', 1, ''), ('tour', 1, '')`,
  );
  await pool.query(
    `insert into ferry.saga (id, name, version, key, state, step, data, ended_at)
     select ferry.uuidv7(), 'trip', 1, 'key-' || i, case when i = 7 then 'stuck' else 'completed' end,
            case when i = 7 then 'hotel' end, '{}', case when i <> 7 then now() end
     from generate_series(1, $1) i`,
    [ROWS],
  );
  await pool.query(
    `insert into ferry.audit (principal, action, subject, event_id)
     select case when i = 7 then 'cli:anna' else 'saga:' || i end, 'order.place', 'order/' || i,
            case when i <> 9 then lpad(i::text, 32, '0')::uuid end
     from generate_series(1, $1) i`,
    [ROWS],
  );
  await pool.query('vacuum analyze ferry.saga, ferry.saga_definition, ferry.audit');
});

/** How many rows a list finds, and how many pages it reads for them. */
async function cost<F>(list: (db: Queryable, filter: F) => Promise<unknown[]>, filter: F) {
  let pages = 0;
  const db: Queryable = {
    query: async (text, values) => {
      const { rows } = await pool.query<{ 'QUERY PLAN': readonly [{ readonly Plan: Record<string, number> }] }>(
        `explain (analyze, buffers, format json) ${text}`,
        values,
      );
      const plan = rows[0]?.['QUERY PLAN'][0].Plan;
      pages += (plan?.['Shared Hit Blocks'] ?? 0) + (plan?.['Shared Read Blocks'] ?? 0);
      return pool.query(text, values);
    },
  };
  const { length: found } = await list(db, filter);
  return { found, pages };
}

const ofSagas = {
  ...{ name: null, state: null, key: null, step: null, startedAfter: null, startedBefore: null, before: null },
  limit: 50,
};
const ofAudit = {
  ...{ principal: null, action: null, subject: null, eventId: null, after: null, before: null, beforeId: null },
  limit: 50,
};

const lists = {
  'sagas by key': () => cost(listSagas, { ...ofSagas, key: 'key-100' }),
  'sagas by key and name': () => cost(listSagas, { ...ofSagas, key: 'key-100', name: 'trip' }),
  'sagas by step': () => cost(listSagas, { ...ofSagas, step: 'hotel' }),
  'the audit by event': () => cost(listAudit, { ...ofAudit, eventId: '00000000-0000-0000-0000-000000000100' }),
  'the audit by principal': () => cost(listAudit, { ...ofAudit, principal: 'cli:anna' }),
};
for (const [what, list] of Object.entries(lists)) {
  test(`${what} reads few pages`, async () => {
    const { found, pages } = await list();
    assert.equal(found, 1);
    assert.ok(pages < FEW_PAGES, `${pages} pages`);
  });
}

test('a step that nobody waits for finds nothing', async () => {
  const { found, pages } = await cost(listSagas, { ...ofSagas, step: 'flight' });
  assert.deepEqual([found, pages < FEW_PAGES], [0, true]);
});
