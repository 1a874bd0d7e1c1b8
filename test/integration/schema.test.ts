/**
 * What the migrations make, as one text: migrations/schema.txt. A reviewer sees there what a migration changes, and a migration that does
 * more than it says is seen at all. FERRY_WRITE_DOCS=1 writes it anew. By catalogue queries, because the embedded Postgres has no pg_dump.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'node:test';
import pg from 'pg';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const FILE = resolve(import.meta.dirname, '../../migrations/schema.txt');

/** Partitions of single days differ from day to day; their parent says what they are. */
const OBJECTS = `
  with mine as (
    select c.oid, c.relkind, n.nspname, c.relname
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = any ('{ferry,commerce,payment,inventory,shipping}') and c.relname !~ '_\\d{8}(_|$)'
  )
  select format('%s.%s', mine.nspname, mine.relname) as owner, 1 as kind, attnum::int as place,
         format('  column %s %s%s%s', attname, format_type(atttypid, atttypmod), case when attnotnull then ' not null' else '' end,
                coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')) as line
    from mine join pg_attribute a on a.attrelid = mine.oid and attnum > 0 and not attisdropped
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
   where relkind in ('r', 'p', 'v')
  union all
  select format('%s.%s', mine.nspname, mine.relname), 2, 0, format('  constraint %s %s', conname, pg_get_constraintdef(co.oid))
    from mine join pg_constraint co on co.conrelid = mine.oid where contype <> 'n'
  union all
  select format('%s.%s', mine.nspname, mine.relname), 3, 0, '  ' || pg_get_indexdef(i.indexrelid)
    from mine join pg_index i on i.indrelid = mine.oid
  union all
  select format('%s.%s', mine.nspname, mine.relname), 4, 0, '  ' || pg_get_triggerdef(t.oid)
    from mine join pg_trigger t on t.tgrelid = mine.oid where not tgisinternal
  union all
  select format('%s.%s', mine.nspname, mine.relname), 5, 0, format('  grant %s to %s', string_agg(privilege_type, ', ' order by privilege_type), grantee::regrole)
    from mine join pg_class c using (oid), aclexplode(c.relacl) acl
   where grantee <> c.relowner and grantee <> 0 group by 1, grantee
  union all
  select format('%s.%s', mine.nspname, mine.relname), 6, 0, format('  grant %s (%s) to %s', privilege_type, string_agg(attname, ', ' order by attnum), grantee::regrole)
    from mine join pg_attribute a on a.attrelid = mine.oid, aclexplode(a.attacl) acl
   where grantee <> 0 group by 1, privilege_type, grantee
  union all
  select format('function %s.%s(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), 7, 0,
         format('  returns %s%s, body %s', pg_get_function_result(p.oid), case when prosecdef then ', security definer' else '' end, md5(prosrc))
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = any ('{ferry,commerce,payment,inventory,shipping}')
  union all
  select format('publication %s', pubname), 8, 0, format('  %s.%s insert=%s update=%s delete=%s truncate=%s via_root=%s', schemaname, tablename, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot)
    from pg_publication join pg_publication_tables using (pubname)
  order by 1, 2, 3, 4`;

test('the migrations make what migrations/schema.txt says', async () => {
  const made = await describeSchema();
  if (process.env.FERRY_WRITE_DOCS === '1') writeFileSync(FILE, made);
  assert.equal(
    made,
    readFileSync(FILE, 'utf8'),
    'FERRY_WRITE_DOCS=1 node --test test/integration/schema.test.ts writes it anew',
  );
});

async function describeSchema(): Promise<string> {
  const client = new pg.Client({ connectionString: stack.databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ owner: string; line: string }>(OBJECTS);
    const lines = ['Made by test/integration/schema.test.ts from a database with all migrations.'];
    for (const [owner, group] of Map.groupBy(rows, (row) => row.owner))
      lines.push('', owner, ...group.map((row) => row.line));
    return `${lines.join('\n')}\n`;
  } finally {
    await client.end();
  }
}
