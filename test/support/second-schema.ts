/** A second version of one event's schema: what has its new field is poison until it is pushed. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const FILE = 'commerce.OrderCancelled.avsc';

/** A directory of all schemas; that of commerce.OrderCancelled has the field `channel` more. */
export function secondVersion(t: { after(release: () => void): void }): string {
  const directory = mkdtempSync(join(tmpdir(), 'ferry-schemas-'));
  t.after(() => rmSync(directory, { recursive: true }));
  cpSync('schemas', directory, { recursive: true });
  const schema = JSON.parse(readFileSync(join(directory, FILE), 'utf8'));
  schema.fields.push({ name: 'channel', type: 'string', default: 'web', doc: 'Where the cancellation came from.' });
  writeFileSync(join(directory, FILE), JSON.stringify(schema));
  return directory;
}
