import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventTiers } from '../../../src/config/tiers.ts';

const tiers = (EVENT_TIERS: string, TIERS = '') => eventTiers({ EVENT_TIERS, TIERS });

describe('tiers', () => {
  test('a type is standard, which parks, unless it is listed', () => {
    assert.equal(tiers('').of('commerce.OrderPlaced').poison, 'park');
    assert.equal(tiers('commerce.OrderPlaced=best-effort').of('commerce.OrderPlaced').poison, 'dead-letter');
    assert.equal(tiers('commerce.OrderPlaced=best-effort').of('commerce.OrderCancelled').poison, 'park');
  });

  test('its own entry counts before its namespace’s', () => {
    const both = tiers('commerce.*=best-effort,commerce.OrderPlaced=critical');
    assert.equal(both.of('commerce.OrderCancelled').poison, 'dead-letter');
    assert.equal(both.of('commerce.OrderPlaced').tries, 10);
    assert.equal(both.of('commerce.sub.Type').poison, 'park');
    assert.equal(both.of('').poison, 'park');
    assert.deepEqual([both.listed('commerce.X')?.tries, both.listed('shop.X')], [1, null]);
  });

  test('a tier can be made to mean something else, in part', () => {
    const changed = tiers(
      'a.B=critical',
      'critical.poison=halt, critical.tries=4,best-effort.tries=2,critical.days=90',
    );
    assert.deepEqual(changed.of('a.B'), { poison: 'halt', tries: 4, days: 90 });
    assert.deepEqual(changed.tier('best-effort'), { poison: 'dead-letter', tries: 2, days: 1 });
    assert.equal(tiers('a.B=critical').of('a.B').poison, 'park', 'another configuration is not touched');
  });

  for (const [eventTiersText, tiersText, expected] of [
    ['a.B=urgent', '', /EVENT_TIERS has "a.B=urgent"; it takes one of critical, standard, best-effort/],
    ['a.B', '', /EVENT_TIERS/],
    ['', 'urgent.poison=park', /TIERS has "urgent.poison"; it takes a tier/],
    ['', 'critical.poison=drop', /TIERS has "critical.poison=drop"; it takes one of park, dead-letter, halt/],
    ['', 'critical.tries=0', /a whole number from 1 to 100/],
    ['', 'critical.tries=1.5', /a whole number from 1 to 100/],
    ['', 'critical.days=0', /a whole number from 1 to 3660/],
    ['', 'critical=park', /poison, tries or days/],
    ['', 'critical.colour=red', /poison, tries or days/],
    ['toString=constructor', '', /EVENT_TIERS/],
  ] as const) {
    test(`${eventTiersText}${tiersText} is refused with what it takes`, () => {
      assert.throws(() => tiers(eventTiersText, tiersText), { code: 'CONFIG_INVALID', message: expected });
    });
  }
});
