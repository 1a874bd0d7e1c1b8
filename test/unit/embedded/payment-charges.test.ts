/** The payment provider's books: once a key, whatever comes and however often, also across a crash. */
import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ChargeBook } from '../../../src/embedded/payment-charges.ts';

const directory = mkdtempSync(join(tmpdir(), 'ferry-charges-'));
after(() => rmSync(directory, { recursive: true }));

describe('a charge', () => {
  test('is authorised, captured and refunded, each once', () => {
    const book = new ChargeBook(null);
    const charge = { key: 'a', amount: '9.10', currency: 'EUR' };
    assert.deepEqual(book.authorise('a', '9.10', 'EUR', 0), { ...charge, status: 'authorised' });
    assert.deepEqual(book.authorise('a', '9.10', 'EUR', 1), { ...charge, status: 'authorised' });
    assert.equal(book.capture('a')?.status, 'captured');
    assert.equal(book.capture('a')?.status, 'captured');
    assert.equal(book.cancel('a').status, 'refunded');
    assert.equal(book.cancel('a').status, 'refunded');
    assert.equal(book.authorise('a', '9.10', 'EUR', 0).status, 'refunded');
    assert.equal(book.capture('a'), undefined);
    assert.deepEqual(book.all(), [{ ...charge, status: 'refunded' }]);
  });

  test('is voided when it was only held, or not asked for yet; then it never is made', () => {
    const book = new ChargeBook(null);
    book.authorise('held', '9.10', 'EUR', 0);
    for (const key of ['held', 'never']) {
      assert.equal(book.cancel(key).status, 'voided');
      assert.equal(book.authorise(key, '9.10', 'EUR', 0).status, 'voided');
      assert.equal(book.capture(key), undefined);
    }
  });

  test('stays declined', () => {
    const book = new ChargeBook(null);
    assert.equal(book.authorise('a', '9.10', 'EUR', 1).status, 'declined');
    assert.equal(book.authorise('a', '9.10', 'EUR', 0).status, 'declined');
    assert.equal(book.capture('a'), undefined);
    assert.equal(book.cancel('a').status, 'declined');
  });
});

test('the books of a file are there again after a crash, but for a line that was cut off', () => {
  const file = join(directory, 'charges.jsonl');
  const before = new ChargeBook(file);
  before.authorise('a', '9.10', 'EUR', 0);
  before.capture('a');
  before.cancel('b');
  appendFileSync(file, '{"key":"c","stat');
  const again = new ChargeBook(file);
  assert.deepEqual(again.all(), before.all());
  assert.equal(again.find('c'), undefined);
  again.cancel('a');
  assert.deepEqual(new ChargeBook(file).all(), again.all());
});
