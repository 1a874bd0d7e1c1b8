/**
 * What encoding costs: one commerce.OrderPlaced of about 300 bytes of JSON, as Postgres prints jsonb, to Confluent wire format, and
 * the check of the same event as bytes. Prints microseconds per event, the median of several rounds.
 *
 *   node bench/encode.ts [events per round]
 */
import { readFileSync } from 'node:fs';
import { EventSchema } from '../src/registry/event-schema.ts';
import { WireWriter } from '../src/registry/wire-format.ts';

const events = Number(process.argv[2] ?? 50_000);
const ROUNDS = 7;

const text = JSON.stringify({
  lines: [{ sku: 'A-1000', quantity: 2, unitPrice: '12.50' }],
  total: '25.00',
  orderId: '0198c1f2-7d1e-7c44-9a55-0c2c6f2f9b11',
  currency: 'EUR',
  placedAt: '2025-08-19T12:34:56.123456Z',
  customerId: 'c-000123',
  customerEmail: 'somebody@example.org',
}).replaceAll(/([:,])"/g, '$1 "');

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Microseconds per call of `work`. */
function measure(work: () => void): number {
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < events; i++) work();
    rounds.push(Number(process.hrtime.bigint() - start) / 1_000 / events);
  }
  return median(rounds);
}

const file = new URL('../schemas/commerce.OrderPlaced.avsc', import.meta.url);
const schema = new EventSchema(1, { text: readFileSync(file, 'utf8'), references: [] });
const writer = new WireWriter();
const value = schema.encode(text, writer);

console.log(`${text.length} bytes of JSON, ${value.length} bytes of Avro; microseconds per event:`);
console.log(`  JSON.parse alone  ${measure(() => JSON.parse(text)).toFixed(2)}`);
console.log(`  encode            ${measure(() => schema.encode(text, writer)).toFixed(2)}`);
console.log(`  check bytes       ${measure(() => schema.check(value)).toFixed(2)}`);
console.log(`  decode            ${measure(() => schema.decode(value)).toFixed(2)}`);
