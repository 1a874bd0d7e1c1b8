/** No digit of a number is lost between text and value. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { canonicalJson, ExactNumber, parseExactJson, stringifyExactJson } from '../../../src/kernel/exact-json.ts';

test('whole numbers of any length come back digit by digit', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 200n), max: 2n ** 200n }), (value) => {
      const text = `{"value":${value}}`;
      assert.equal(stringifyExactJson(parseExactJson(text)), text);
    }),
  );
  assert.equal(parseExactJson('9007199254740991'), Number.MAX_SAFE_INTEGER);
  assert.equal(parseExactJson('9007199254740993'), 9007199254740993n);
});

test('decimals keep their value, however long', () => {
  const digits = (minLength: number) => fc.string({ unit: fc.constantFrom(...'0123456789'), minLength, maxLength: 40 });
  fc.assert(
    fc.property(fc.bigInt({ min: 1n, max: 10n ** 30n }), digits(1), (whole, fraction) => {
      const source = `${whole}.${fraction}`;
      const printed = stringifyExactJson(parseExactJson(source));
      const [printedWhole, printedFraction = ''] = printed.split('.');
      assert.equal(printedWhole, String(whole));
      assert.equal(printedFraction.replace(/0+$/, ''), fraction.replace(/0+$/, ''));
    }),
  );
});

test('other JSON is what JSON.parse makes of it', () => {
  const json = fc.jsonValue({ noUnicodeString: false }).filter((value) => !JSON.stringify(value).includes('__proto__'));
  fc.assert(
    fc.property(json, (value) => {
      const text = JSON.stringify(value);
      assert.deepEqual(JSON.parse(stringifyExactJson(parseExactJson(text))), JSON.parse(text));
    }),
  );
});

test('a number that no double holds is kept as it was written', () => {
  const parsed = parseExactJson('1e400');
  assert.ok(parsed instanceof ExactNumber);
  assert.equal(stringifyExactJson([parsed]), '[1e400]');
});

test('malformed text and the key __proto__ are refused', () => {
  for (const text of ['', '{', '{"a":01}', '{"__proto__":{"admin":true}}']) {
    assert.throws(() => parseExactJson(text), SyntaxError, text);
  }
});

test('equal documents have equal canonical text', () => {
  const a = parseExactJson('{"b":[1,{"y":2,"x":9007199254740993}],"a":null}');
  const b = parseExactJson('{"a":null,"b":[1,{"x":9007199254740993,"y":2}]}');
  assert.equal(canonicalJson(a), canonicalJson(b));
  assert.notEqual(canonicalJson(a), canonicalJson(parseExactJson('{"a":null,"b":[{"x":1},1]}')));
});
