/** What follows from what happened, case by case; decide-properties.test.ts has the rest. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SAGA_HEADER } from '../../../src/events/saga-headers.ts';
import { decide } from '../../../src/saga/decide.ts';
import type { Saga } from '../../../src/saga/definition.ts';
import type {
  Decision,
  OperatorAction,
  OutgoingCommand,
  SagaInput,
  SagaInstance,
  Timer,
} from '../../../src/saga/instance.ts';
import { eventId } from '../../support/relay-fixtures.ts';
import { type TripStep, tripSaga } from '../../support/saga-model.ts';

const SAGA = tripSaga({ timeoutMs: 1_000, retry: { maxTries: 2, baseMs: 10, maxMs: 40 } });

/** One saga, told what happens; keeps what it sent last. */
class Trip {
  instance: SagaInstance;
  last: Decision;
  timer: Timer = null;
  readonly #saga: Saga;
  #ids = 0;

  constructor(saga: Saga = SAGA) {
    this.#saga = saga;
    this.instance = {
      id: '019b7c5e-8c00-7000-8000-00000000a001',
      name: 'trip',
      version: 1,
      key: 'order-1',
      state: 'running',
      data: { orderId: 'order-1', amount: 7, receipts: 0 },
      step: null,
      tries: 0,
      cancelling: false,
      problem: null,
      traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
      steps: new Map(),
    };
    this.last = this.#decided({ kind: 'start' });
  }

  /** As far as `step`, whose command is sent and not answered. */
  static at(step: TripStep, saga: Saga = SAGA): Trip {
    const trip = new Trip(saga);
    while (trip.instance.step !== step) trip.done(trip.instance.step as TripStep);
    return trip;
  }

  done = (step: TripStep, attempt = 1) => this.#reply('trip.Done', step, 'do', attempt);
  refused = (step: TripStep, attempt = 1) => this.#reply('trip.Refused', step, 'do', attempt);
  undone = (step: TripStep, attempt = 1) => this.#reply('trip.Undone', step, 'undo', attempt);
  undoRefused = (step: TripStep, attempt = 1) => this.#reply('trip.Refused', step, 'undo', attempt);
  expire = (lateMs = 0) => this.#decided({ kind: 'timer', lateMs });
  operate = (action: OperatorAction) => this.#decided({ kind: 'operator', action, actor: 'ada', reason: 'because' });

  #reply(type: string, step: TripStep, purpose: 'do' | 'undo', attempt: number): Decision {
    const value = type === 'trip.Refused' ? { why: 'no' } : { amount: 7 };
    return this.#decided({ kind: 'reply', eventId: eventId(++this.#ids), type, value, step, purpose, attempt });
  }

  #decided(input: SagaInput): Decision {
    const decision = decide(this.#saga, this.instance, input, () => eventId(++this.#ids));
    assert.ok(decision !== null);
    this.last = decision;
    this.instance = decision.instance;
    if (decision.timer !== 'unchanged') this.timer = decision.timer;
    return decision;
  }

  get sent(): string[] {
    return this.last.commands.map(nameOf);
  }

  stateOf = (step: TripStep) => this.instance.steps.get(step)?.state;

  get step(): string {
    const { state, step } = this.instance;
    return step === null ? state : `${state} ${step}: ${this.instance.steps.get(step)?.state}`;
  }
}

/** `do payment 1` */
function nameOf({ headers }: OutgoingCommand): string {
  return [SAGA_HEADER.purpose, SAGA_HEADER.step, SAGA_HEADER.attempt].map((name) => headers[name]).join(' ');
}

describe('forward', () => {
  test('a step that is done before is passed over, and the first command carries key, trace and correlation', () => {
    const { last, instance } = new Trip();
    const [command] = last.commands;
    assert.equal(instance.steps.get('order')?.state, 'done');
    assert.deepEqual(
      { ...command, id: null },
      {
        id: null,
        aggregateType: 'payment-command',
        aggregateId: 'order-1',
        type: 'trip.Do',
        payload: { amount: 7 },
        headers: {
          ferry_saga_id: instance.id,
          ferry_saga_step: 'payment',
          ferry_saga_purpose: 'do',
          ferry_saga_attempt: '1',
        },
        traceparent: instance.traceparent,
      },
    );
  });

  test('each reply sends the next command, merges its part into the data, and the last one completes', () => {
    const trip = new Trip();
    for (const step of ['payment', 'inventory', 'shipping', 'handover', 'issue'] as const) {
      trip.done(step);
      assert.equal(trip.sent.length, 1);
    }
    trip.done('complete');
    assert.deepEqual([trip.step, trip.sent, trip.timer, trip.instance.data.receipts], ['completed', [], null, 6]);
  });

  test('the history links each row to the command or the reply', () => {
    const trip = new Trip();
    const { history, commands } = trip.done('payment');
    assert.deepEqual(
      history.map(({ cause, step, from, to, attempt, eventId: id }) => [cause, step, from, to, attempt, id]),
      [
        ['reply', 'payment', 'sent', 'done', 1, eventId(2)],
        ['command', 'inventory', 'pending', 'sent', 1, commands[0]?.id],
      ],
    );
  });

  test('a duplicate and a reply to an earlier try change nothing but the history', () => {
    const trip = Trip.at('inventory');
    const before = trip.instance;
    const { instance, commands, history, timer } = trip.done('payment');
    assert.deepEqual([instance, commands, timer], [before, [], 'unchanged']);
    assert.deepEqual(
      history.map(({ cause, from, to }) => [cause, from, to]),
      [['late-reply', 'done', 'done']],
    );
  });

  test('an event that is no reply of the step is none', () => {
    const trip = new Trip();
    for (const reply of [
      { type: 'trip.Other', step: 'payment', purpose: 'do' },
      { type: 'trip.Done', step: 'elsewhere', purpose: 'do' },
      { type: 'trip.Undone', step: 'payment', purpose: 'do' },
      { type: 'trip.Undone', step: 'handover', purpose: 'undo' },
    ] as const) {
      const input: SagaInput = { kind: 'reply', eventId: eventId(99), value: {}, attempt: 1, ...reply };
      assert.equal(
        decide(SAGA, trip.instance, input, () => eventId(1)),
        null,
      );
    }
  });
});

describe('time-outs', () => {
  test('a command is sent again with the next number, for longer each time; then it is undone', () => {
    const trip = Trip.at('payment');
    assert.ok(typeof trip.timer === 'number' && trip.timer > 1_000 && trip.timer <= 1_010);
    trip.expire();
    assert.deepEqual(trip.sent, ['do payment 2']);
    assert.ok(typeof trip.timer === 'number' && trip.timer >= 1_010 && trip.timer <= 1_020);
    trip.expire();
    assert.deepEqual([trip.step, trip.sent], ['compensating payment: undoing', ['undo payment 1']]);
    assert.deepEqual(trip.instance.problem, { code: 'SAGA_STEP_UNANSWERED', text: 'payment: no answer to 2 tries' });
  });

  test('after a downtime nothing is given up unheard: there is one more try', () => {
    const trip = Trip.at('payment');
    trip.expire();
    trip.expire(3_600_000);
    assert.deepEqual([trip.step, trip.sent], ['running payment: sent', ['do payment 3']]);
    trip.expire();
    assert.deepEqual(trip.sent, ['undo payment 1']);
    trip.expire();
    trip.expire(3_600_000);
    assert.deepEqual([trip.step, trip.sent], ['compensating payment: undoing', ['undo payment 3']]);
    trip.expire();
    assert.equal(trip.step, 'compensation_failed payment: undo_failed');
  });

  test('from the pivot on the command is repeated without end, and operators are told', () => {
    for (const step of ['handover', 'issue'] as const) {
      const trip = Trip.at(step);
      for (let attempt = 2; attempt <= 9; attempt++) {
        trip.expire();
        assert.deepEqual(trip.sent, [`do ${step} ${attempt}`]);
        assert.ok(typeof trip.timer === 'number' && trip.timer <= 1_040);
        assert.equal(trip.instance.state, attempt <= 2 ? 'running' : 'stuck');
      }
      trip.done(step, 3);
      assert.deepEqual([trip.instance.state, trip.instance.problem], ['running', null]);
    }
  });

  test('an undo that nobody answers fails after its tries; its late answer helps all the same', () => {
    const trip = Trip.at('inventory');
    trip.refused('inventory');
    assert.deepEqual(trip.sent, ['undo payment 1']);
    trip.expire();
    assert.deepEqual(trip.sent, ['undo payment 2']);
    trip.expire();
    assert.deepEqual([trip.step, trip.timer], ['compensation_failed payment: undo_failed', null]);
    trip.undone('payment', 1);
    assert.deepEqual([trip.step, trip.sent], ['compensating order: undoing', ['undo order 1']]);
  });
});

describe('refusals', () => {
  test('before the pivot and at it: everything is undone, the last step first', () => {
    const trip = Trip.at('handover');
    trip.refused('handover');
    assert.deepEqual(trip.instance.problem, { code: 'SAGA_STEP_REFUSED', text: 'handover: no' });
    for (const step of ['shipping', 'inventory', 'payment', 'order'] as const) {
      assert.deepEqual([trip.step, trip.sent], [`compensating ${step}: undoing`, [`undo ${step} 1`]]);
      trip.undone(step);
    }
    assert.deepEqual([trip.step, trip.sent, trip.timer], ['compensated', [], null]);
  });

  test('after the pivot: stuck without a timer, until an operator retries', () => {
    const trip = Trip.at('issue');
    trip.refused('issue');
    assert.deepEqual([trip.step, trip.timer], ['stuck issue: refused', null]);
    trip.operate('retry');
    assert.deepEqual([trip.step, trip.sent], ['running issue: sent', ['do issue 2']]);
  });

  test('of an undo: it is tried again, and fails with the last try; an older try’s refusal does not count', () => {
    const trip = Trip.at('inventory');
    trip.refused('inventory');
    assert.equal(trip.undoRefused('payment', 1).timer, 'unchanged');
    trip.expire();
    trip.undoRefused('payment', 1);
    assert.equal(trip.step, 'compensating payment: undoing');
    trip.undoRefused('payment', 2);
    assert.equal(trip.step, 'compensation_failed payment: undo_failed');
  });
});

describe('what turns out late to have happened', () => {
  test('is undone again, and a saga that had ended goes on until it is', () => {
    const trip = Trip.at('inventory');
    trip.refused('inventory');
    trip.undone('payment');
    trip.undone('order');
    assert.equal(trip.step, 'compensated');
    trip.done('payment');
    assert.deepEqual([trip.step, trip.sent], ['compensating payment: undoing', ['undo payment 2']]);
    trip.undone('payment', 2);
    assert.equal(trip.step, 'compensated');
  });

  test('is undone again when its turn comes, while others are being undone', () => {
    const trip = Trip.at('inventory');
    trip.refused('inventory');
    trip.undone('payment');
    trip.done('inventory');
    assert.deepEqual([trip.step, trip.sent], ['compensating order: undoing', []]);
    trip.undone('order');
    assert.deepEqual(trip.sent, ['undo inventory 1']);
  });

  test('is undone again before the saga goes on, if it was skipped', () => {
    const trip = Trip.at('payment');
    trip.operate('skip');
    trip.undone('payment');
    trip.done('payment');
    trip.done('payment');
    assert.deepEqual([trip.step, trip.sent], ['running inventory: sent', []]);
    trip.done('inventory');
    assert.deepEqual([trip.step, trip.sent], ['running payment: undoing', ['undo payment 2']]);
    trip.undone('payment', 2);
    assert.deepEqual([trip.step, trip.sent], ['running shipping: sent', ['do shipping 1']]);
  });

  test('is undone with the others, if it was skipped and the saga turns back', () => {
    const trip = Trip.at('payment');
    for (let skips = 0; skips < 2; skips++) trip.operate('skip');
    trip.done('payment');
    trip.refused('inventory');
    assert.deepEqual([trip.step, trip.sent], ['compensating payment: undoing', ['undo payment 2']]);
  });

  test('opens a saga without a pivot again that was completed with it skipped', () => {
    const trip = Trip.at('inventory', { ...SAGA, steps: SAGA.steps.slice(0, 3) });
    for (let skips = 0; skips < 2; skips++) trip.operate('skip');
    assert.equal(trip.step, 'completed');
    trip.done('inventory');
    assert.deepEqual([trip.step, trip.sent], ['running inventory: undoing', ['undo inventory 2']]);
    trip.undone('inventory', 2);
    assert.deepEqual([trip.step, trip.timer], ['completed', null]);
  });

  test('stays, behind the pivot', () => {
    const trip = Trip.at('payment');
    trip.operate('skip');
    trip.undone('payment');
    for (const step of ['inventory', 'shipping'] as const) trip.done(step);
    trip.done('payment');
    assert.deepEqual([trip.step, trip.sent], ['running handover: sent', []]);
  });
});

describe('a step that is skipped with its outcome unknown', () => {
  const skipped = () => {
    const trip = Trip.at('inventory');
    trip.operate('skip');
    return trip;
  };

  test('is undone first, and the saga goes on with the answer', () => {
    const trip = skipped();
    assert.deepEqual([trip.step, trip.sent], ['running inventory: undoing', ['undo inventory 1']]);
    assert.ok(typeof trip.timer === 'number' && trip.timer > 1_000);
    trip.done('inventory');
    assert.deepEqual([trip.step, trip.sent], ['running inventory: undoing', []]);
    trip.undone('inventory');
    assert.deepEqual([trip.step, trip.sent], ['running shipping: sent', ['do shipping 1']]);
    assert.equal(trip.stateOf('inventory'), 'undone');
  });

  test('is not undone a second time when the saga turns back later', () => {
    const trip = skipped();
    trip.undone('inventory');
    trip.refused('shipping');
    assert.deepEqual([trip.step, trip.sent], ['compensating payment: undoing', ['undo payment 1']]);
  });

  test('is asked again while there is no answer, and then waits for an operator; a late answer helps all the same', () => {
    const trip = skipped();
    trip.expire();
    assert.deepEqual([trip.step, trip.sent], ['running inventory: undoing', ['undo inventory 2']]);
    trip.expire();
    assert.deepEqual([trip.step, trip.timer], ['stuck inventory: undo_failed', null]);
    assert.deepEqual(trip.instance.problem, { code: 'SAGA_STEP_UNANSWERED', text: 'inventory: no answer to 2 tries' });
    trip.undone('inventory', 1);
    assert.deepEqual(
      [trip.step, trip.sent, trip.instance.problem],
      ['running shipping: sent', ['do shipping 1'], null],
    );
  });

  const refused = () => {
    const trip = skipped();
    trip.expire();
    trip.undoRefused('inventory', 2);
    assert.deepEqual([trip.step, trip.timer], ['stuck inventory: undo_failed', null]);
    assert.deepEqual(trip.instance.problem, { code: 'SAGA_STEP_REFUSED', text: 'inventory: no' });
    return trip;
  };

  test('and whose undo is refused: retry asks again with all tries, a second skip takes the undo as settled too', () => {
    const retried = refused();
    retried.operate('retry');
    assert.deepEqual([retried.step, retried.sent], ['running inventory: undoing', ['undo inventory 3']]);
    const settled = refused();
    settled.operate('skip');
    assert.deepEqual([settled.step, settled.sent], ['running shipping: sent', ['do shipping 1']]);
    assert.deepEqual([settled.stateOf('inventory'), settled.instance.problem], ['skipped', null]);
  });

  test('is undone with the others if the saga is to be undone after all, while it waits or is stuck', () => {
    for (const trip of [skipped(), refused()]) {
      trip.operate('compensate');
      assert.match(trip.step, /^compensating inventory: undoing$/);
      assert.match(trip.sent.join(), /^undo inventory \d$/);
      trip.undone('inventory', 2);
      assert.deepEqual(trip.sent, ['undo payment 1']);
    }
    const cancelled = skipped();
    cancelled.operate('cancel');
    assert.deepEqual(cancelled.sent, []);
    cancelled.undone('inventory');
    assert.deepEqual([cancelled.step, cancelled.sent], ['compensating payment: undoing', ['undo payment 1']]);
  });
});

describe('operators', () => {
  test('retry sends the command at once and gives it all its tries again', () => {
    const trip = Trip.at('payment');
    trip.expire();
    trip.operate('retry');
    trip.expire();
    assert.deepEqual([trip.step, trip.sent], ['running payment: sent', ['do payment 4']]);
  });

  test('compensate undoes at once, the step in flight too', () => {
    const trip = Trip.at('shipping');
    trip.operate('compensate');
    assert.deepEqual([trip.step, trip.sent], ['compensating shipping: undoing', ['undo shipping 1']]);
    assert.deepEqual(
      trip.last.history.map(({ actor, reason }) => [actor, reason]),
      [
        ['ada', 'because'],
        ['ada', 'because'],
        ['ada', 'because'],
      ],
    );
  });

  test('cancel waits for the step in flight, and then undoes instead of going on', () => {
    for (const answer of ['done', 'refused'] as const) {
      const trip = Trip.at('inventory');
      trip.operate('cancel');
      assert.deepEqual([trip.step, trip.sent], ['running inventory: sent', []]);
      trip[answer]('inventory');
      assert.deepEqual(trip.sent, [answer === 'done' ? 'undo inventory 1' : 'undo payment 1']);
    }
  });

  test('skip takes what is refused or not answered as settled', () => {
    const forward = Trip.at('issue');
    forward.refused('issue');
    forward.operate('skip');
    assert.deepEqual([forward.step, forward.sent], ['running complete: sent', ['do complete 1']]);
    const back = Trip.at('inventory');
    back.refused('inventory');
    for (let i = 0; i < 2; i++) back.expire();
    back.operate('skip');
    assert.deepEqual([back.step, back.sent], ['compensating order: undoing', ['undo order 1']]);
  });

  const refused: ReadonlyArray<[OperatorAction, string, () => Trip]> = [
    ['compensate', 'the pivot was sent', () => Trip.at('handover')],
    ['cancel', 'the pivot was sent', () => Trip.at('issue')],
    [
      'cancel',
      'it is compensating',
      () => {
        const trip = Trip.at('payment');
        trip.refused('payment');
        return trip;
      },
    ],
    [
      'cancel',
      'it is being cancelled',
      () => {
        const trip = Trip.at('payment');
        trip.operate('cancel');
        return trip;
      },
    ],
    [
      'retry',
      'it has ended',
      () => {
        const trip = Trip.at('complete');
        trip.done('complete');
        return trip;
      },
    ],
  ];
  for (const [action, why, trip] of refused) {
    test(`${action} is refused: ${why}`, () => {
      const at = trip();
      assert.throws(() => at.operate(action), { code: 'CONFLICT', message: new RegExp(why) });
    });
  }
});

test('text of a participant is kept as Postgres can store it, and not without end', () => {
  const trip = Trip.at('payment');
  const value = { why: `\0\ud800${'x'.repeat(2_000)}` };
  const input: SagaInput = {
    kind: 'reply',
    eventId: eventId(9),
    type: 'trip.Refused',
    value,
    step: 'payment',
    purpose: 'do',
    attempt: 1,
  };
  const decision = decide(SAGA, trip.instance, input, () => eventId(10));
  const texts = [
    decision?.instance.problem?.text ?? '',
    ...(decision?.history ?? []).map(({ reason }) => reason ?? ''),
  ];
  for (const text of texts) assert.ok(text.length <= 1_000 && text.isWellFormed() && !text.includes('\0'));
});
