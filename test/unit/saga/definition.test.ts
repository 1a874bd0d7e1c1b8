/** Definitions: what is refused, and what their checksum holds on to. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { defineSaga, replyTypes, type SagaSpec } from '../../../src/saga/definition.ts';
import { tripSaga } from '../../support/saga-model.ts';

interface Data {
  readonly orderId: string;
}
interface Payloads {
  'a.Do': { readonly id: string };
  'a.Undo': { readonly id: string };
  'a.Done': { readonly receipt: string };
  'a.No': { readonly why: string };
}
type Spec = SagaSpec<Data, Payloads>;
type Step = Spec['steps'][number];

const step = (changes: Partial<Step> = {}): Step => ({
  name: 'payment',
  command: {
    aggregateType: 'a-command',
    type: 'a.Do',
    payload: ({ orderId }) => ({ id: orderId }),
    replies: { 'a.Done': { outcome: 'done' }, 'a.No': { outcome: 'refused', reason: ({ why }) => why } },
  },
  compensation: {
    aggregateType: 'a-command',
    type: 'a.Undo',
    payload: ({ orderId }) => ({ id: orderId }),
    replies: { 'a.Done': { outcome: 'done' } },
  },
  timeoutMs: 1_000,
  retry: { maxTries: 3, baseMs: 10, maxMs: 100 },
  ...changes,
});
const spec = (changes: Partial<Spec> = {}): Spec => ({ name: 'shop', version: 1, steps: [step()], ...changes });
const forward = (name: string, changes: Partial<Step> = {}) => step({ name, compensation: null, ...changes });

describe('a definition is refused', () => {
  const refused: ReadonlyArray<[string, Spec, RegExp]> = [
    ['without a step', spec({ steps: [] }), /has no step to do/],
    ['with nothing but steps that are done before', spec({ steps: [step({ command: null })] }), /has no step to do/],
    ['with a name that is none', spec({ name: 'Shop 1' }), /a name is lower case/],
    ['with a step’s name that is none', spec({ steps: [step({ name: '' })] }), /a name is lower case/],
    ['with two steps of one name', spec({ steps: [step(), step()] }), /two steps of the same name/],
    ['with a version that is none', spec({ version: 0 }), /versions are 1, 2, 3/],
    ['without a try', spec({ steps: [step({ retry: { maxTries: 0, baseMs: 1, maxMs: 1 } })] }), /maxTries/],
    ['with pauses that shrink', spec({ steps: [step({ retry: { maxTries: 1, baseMs: 9, maxMs: 1 } })] }), /baseMs/],
    ['without a time-out', spec({ steps: [step({ timeoutMs: 0 })] }), /timeoutMs/],
    [
      'with two pivots',
      spec({ steps: [forward('a', { pivot: true }), forward('b', { pivot: true })] }),
      /2 pivots; it takes one at most/,
    ],
    ['with a pivot that can be undone', spec({ steps: [step({ pivot: true })] }), /no compensation/],
    ['with an undo behind the pivot', spec({ steps: [forward('a', { pivot: true }), step()] }), /no compensation/],
    [
      'with a command that no reply answers',
      spec({
        steps: [
          step({
            command: {
              aggregateType: 'x',
              type: 'a.Do',
              payload: () => ({ id: '' }),
              replies: { 'a.No': { outcome: 'refused', reason: () => '' } },
            },
          }),
        ],
      }),
      /no reply to a.Do means that it is done/,
    ],
  ];
  for (const [what, given, message] of refused) {
    test(what, () => assert.throws(() => defineSaga(given), message));
  }
});

describe('the checksum', () => {
  const checksum = (changes: Partial<Spec>) => defineSaga(spec(changes)).checksum;
  const own = checksum({});

  test('holds on to the structure', () => {
    const { command } = step();
    assert.ok(command !== null && command.type === 'a.Do');
    const others: Array<Partial<Spec>> = [
      { steps: [step({ name: 'other' })] },
      { steps: [step(), step({ name: 'other' })] },
      { steps: [step({ compensation: null })] },
      { steps: [forward('payment', { pivot: true })] },
      { steps: [step({ command: { ...command, aggregateType: 'other' } })] },
      { steps: [step({ command: { ...command, replies: { 'a.Done': { outcome: 'done' } } } })] },
    ];
    const checksums = new Set([own, ...others.map(checksum)]);
    assert.equal(checksums.size, others.length + 1);
  });

  test('and not to time-outs, retries or the order of replies', () => {
    const { command } = step();
    assert.ok(command !== null && command.type === 'a.Do');
    const turned = Object.fromEntries(Object.entries(command.replies).reverse()) as typeof command.replies;
    const retry = { maxTries: 9, baseMs: 1, maxMs: 2 };
    assert.equal(
      checksum({ version: 2, steps: [step({ timeoutMs: 5, retry, command: { ...command, replies: turned } })] }),
      own,
    );
  });
});

test('the reply types are those of all commands and compensations, once each', () => {
  assert.deepEqual(replyTypes([defineSaga(spec()), tripSaga()]), [
    'a.Done',
    'a.No',
    'trip.Done',
    'trip.Refused',
    'trip.Undone',
  ]);
});

test('types: a payload, a reply and data that do not fit are compile errors', () => {
  type Command = NonNullable<Step['command']>;
  // @ts-expect-error -- the payload of a.Do has an id
  const payload: Command = { aggregateType: 'a', type: 'a.Do', payload: () => ({ no: 1 }), replies: {} };
  const replies: Command['replies'] = {
    // @ts-expect-error -- the receipt is in another reply
    'a.No': { outcome: 'refused', reason: ({ receipt }) => receipt },
    // @ts-expect-error -- the data has no such member
    'a.Done': { outcome: 'done', merge: ({ receipt }) => ({ receipt }) },
  };
  assert.deepEqual([payload.type, Object.keys(replies).length], ['a.Do', 2]);
});
