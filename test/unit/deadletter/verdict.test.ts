/** What has become of a dead letter: only what its owner says counts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEAD_LETTER_STATES, mayBecome } from '../../../src/deadletter/states.ts';
import {
  type GroupFacts,
  groupVerdict,
  type RelayFacts,
  relayVerdict,
  type Verdict,
} from '../../../src/deadletter/verdict.ts';

const EVENT = 'event';
const NOTHING: GroupFacts = { outcome: null, parked: null, retry: null };
const replaying = (facts: Partial<GroupFacts>) =>
  groupVerdict({ eventId: EVENT, state: 'replaying' }, { ...NOTHING, ...facts });
const codeOf = (verdict: Verdict) => (verdict?.state === 'open' ? verdict.code : verdict?.state);

test('of a group: applied is resolved, whoever did it and whatever was decided', () => {
  for (const state of ['open', 'replaying', 'discarded'] as const)
    assert.deepEqual(groupVerdict({ eventId: EVENT, state }, { ...NOTHING, outcome: 'applied' }), {
      state: 'resolved',
    });
});

test('of a group: nothing is said while it is under way', () => {
  assert.equal(replaying({}), null);
  assert.equal(replaying({ outcome: 'dead-lettered' }), null);
  assert.equal(replaying({ outcome: 'parked', parked: { releasing: true, behind: EVENT, code: 'X' } }), null);
});

test('of a group: what failed again is open again, with the code of the failure', () => {
  assert.equal(
    codeOf(replaying({ outcome: 'dead-lettered', retry: { outcome: 'failed', code: '23505', message: '' } })),
    '23505',
  );
  assert.equal(codeOf(replaying({ outcome: 'parked', parked: { releasing: false, behind: EVENT, code: 'X' } })), 'X');
  const behind = { releasing: false, behind: 'another', code: 'X' };
  assert.equal(codeOf(replaying({ outcome: 'parked', parked: behind })), 'KEY_PARKED');
  assert.equal(codeOf(replaying({ outcome: 'parked' })), 'HANDLER_MISSING');
});

test('of a group: what nobody asked for stays open', () => {
  const open = { eventId: EVENT, state: 'open' } as const;
  assert.equal(
    groupVerdict(open, { ...NOTHING, outcome: 'parked', parked: { releasing: false, behind: EVENT, code: 'X' } }),
    null,
  );
  assert.equal(groupVerdict(open, { ...NOTHING, outcome: 'dead-lettered' }), null);
  assert.deepEqual(groupVerdict(open, { ...NOTHING, outcome: 'discarded' }), { state: 'discarded' });
});

test('of the relay: resolved when it is published and no dead letter any more, open when the relay is past it and it still is one', () => {
  const verdict = (facts: Partial<RelayFacts>) =>
    relayVerdict(
      { eventId: EVENT, state: 'replaying' },
      { published: false, discarded: false, deadLetterCode: null, passed: false, ...facts },
    );
  assert.equal(verdict({ deadLetterCode: 'SCHEMA_MISMATCH' }), null);
  assert.equal(codeOf(verdict({ deadLetterCode: 'SCHEMA_MISMATCH', passed: true })), 'SCHEMA_MISMATCH');
  assert.equal(codeOf(verdict({ published: true, passed: true })), 'resolved');
  assert.equal(verdict({ passed: true }), null);
  assert.equal(codeOf(verdict({ discarded: true, passed: true })), 'discarded');
});

test('no verdict is one that the states do not allow', () => {
  const outcomes = ['applied', 'parked', 'dead-lettered', 'discarded', null] as const;
  const keys = [null, { releasing: true, behind: EVENT, code: 'X' }, { releasing: false, behind: 'other', code: 'X' }];
  const retries = [
    null,
    ...(['applied', 'discarded', 'failed'] as const).map((outcome) => ({ outcome, code: 'X', message: '' })),
  ];
  for (const state of DEAD_LETTER_STATES.filter((name) => name !== 'resolved')) {
    for (const outcome of outcomes)
      for (const parked of keys)
        for (const retry of retries) {
          const verdict = groupVerdict({ eventId: EVENT, state }, { outcome, parked, retry });
          if (verdict !== null) assert.ok(mayBecome(state, verdict.state), `${state} → ${verdict.state}`);
        }
  }
});
