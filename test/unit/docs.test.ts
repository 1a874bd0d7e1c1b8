/**
 * The documents say what the code says: the README's configuration table, the metrics and refusals of the runbooks, and every file that
 * a document names. `FERRY_WRITE_DOCS=1 node --test test/unit/docs.test.ts` rewrites the table.
 */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { describeVariables } from '../../src/config/load.ts';
import { ERRORS } from '../../src/kernel/errors.ts';
import { readSchemaFile } from '../../src/registry/schema-files.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const PAGES = ['README.md', 'CHANGELOG.md', ...globSync('docs/**/*.md', { cwd: ROOT }).sort()];

const read = (page: string) => readFileSync(join(ROOT, page), 'utf8');

const TABLE = /(<!-- configuration: [^\n]*-->\n)[\s\S]*?(<!-- \/configuration -->)/;

function configurationTable(): string {
  const rows = describeVariables().map(({ name, default: fallback, unit, description }) => {
    const shown = fallback === '' ? '' : `\`${fallback}\`${unit === '' ? '' : ` ${unit}`}`;
    return `| \`${name}\` | ${shown} | ${description.replaceAll('<', '&lt;')} |`;
  });
  return ['', '| Variable | Default | |', '|---|---|---|', ...rows, '', ''].join('\n');
}

/** Names of all instruments, by asking for them. */
function metricNames(): string[] {
  const names: string[] = [];
  const note = (name: string) => {
    names.push(name);
    return {};
  };
  createMetrics({ createGauge: note, createCounter: note, createHistogram: note } as never);
  return names;
}

/** Links to files and paths in backticks, without anchors and line numbers. */
function namedFiles(page: string, text: string): string[] {
  const prose = text.replace(/^```[\s\S]*?^```/gm, '');
  const links = [...prose.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map(([, target = '']) =>
    join(dirname(page), target),
  );
  const paths = [...prose.matchAll(/`((?:src|test|docs|migrations|schemas|docker|bench)\/[\w./-]*\w\/?)`/g)];
  return [...links, ...paths.map(([, path = '']) => path)];
}

describe('the documents', () => {
  test('README’s configuration table is that of the settings', () => {
    const wanted = read('README.md').replace(TABLE, `$1${configurationTable()}$2`);
    if (process.env.FERRY_WRITE_DOCS === '1') writeFileSync(join(ROOT, 'README.md'), wanted);
    assert.match(read('README.md'), TABLE);
    assert.ok(
      read('README.md') === wanted,
      'README.md’s table is not that of src/config/variables.ts: FERRY_WRITE_DOCS=1 node --test test/unit/docs.test.ts',
    );
  });

  test('name only files that exist', () => {
    const named = PAGES.flatMap((page) => namedFiles(page, read(page)).map((file) => ({ page, file })));
    assert.ok(named.length > 50, 'the documents name hardly any file: is the pattern still right?');
    const missing = named.filter(({ file }) => !existsSync(join(ROOT, file)));
    assert.deepEqual(missing, []);
  });

  test('the runbooks explain every metric, and no other', () => {
    const explained = new Set([...read('docs/OPERATIONS.md').matchAll(/^\| `(ferry_\w+)/gm)].map(([, name]) => name));
    assert.deepEqual([...explained].sort(), metricNames().sort());
  });

  test('the runbooks have a way out of every refusal of the relay', () => {
    const headings = [...read('docs/OPERATIONS.md').matchAll(/^### `(RELAY_\w+)`/gm)].map(([, code]) => code);
    const refusals = Object.keys(ERRORS).filter((code) => code.startsWith('RELAY_'));
    assert.deepEqual(headings.sort(), refusals.sort());
  });

  test('the example schema is one that Ferry takes', () => {
    const example = /```json\n(\{[\s\S]*?)```/.exec(read('docs/EVENTS.md'))?.[1] ?? '';
    const file = readSchemaFile('billing.InvoiceSent.avsc', example);
    assert.ok('level' in file, JSON.stringify(file));
    assert.deepEqual([file.aggregateType, file.level], ['invoice', 'FULL_TRANSITIVE']);
  });

  test('name only error codes that exist', () => {
    const known = new Set(Object.keys(ERRORS));
    const codes = /`((?:RELAY|SCHEMA|EVENT|REGISTRY|IDEMPOTENCY|PART|PAYLOAD|OUTBOX|PARTITION)_[A-Z_]+)`/g;
    const settings = new Set<string>(describeVariables().map(({ name }) => name));
    const unknown = PAGES.flatMap((page) =>
      [...read(page).matchAll(codes)].map(([, code = '']) => `${page}: ${code}`),
    ).filter((found) => !known.has(found.split(': ')[1] ?? '') && !settings.has(found.split(': ')[1] ?? ''));
    assert.deepEqual(unknown, []);
  });
});
