/** Prefer: wait, in every form that RFC 7240 allows; what it does not allow is a wish that nobody can read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { preferredWaitSeconds } from '../../../src/http/prefer.ts';

for (const [header, seconds] of [
  ['wait=10', 10],
  ['wait=0', 0],
  ['WAIT = 10', 10],
  ['wait="10"', 10],
  ['respond-async, wait=10', 10],
  ['return=minimal; foo="a;b", wait=7; strict', 7],
  ['wait=3, wait=9', 3],
  ['', null],
  ['wait', null],
  ['wait=', null],
  ['wait=-1', null],
  ['wait=1.5', null],
  ['wait=soon, wait=9', null],
  ['wait=99999999999999999999', null],
  ['await=10', null],
  ['wait 10', null],
  [',,;=', null],
] as const) {
  test(`Prefer: ${header} asks for ${seconds === null ? 'no wait' : `${seconds} s`}`, () => {
    assert.equal(preferredWaitSeconds(header), seconds);
  });
}
