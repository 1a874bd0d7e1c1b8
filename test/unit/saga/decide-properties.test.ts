/**
 * Whatever happens to a saga, in whatever order: it ends done or fully undone, and nothing is left over. The orchestrator is the pure
 * decision; participants and bus are models that repeat, lose, delay and reorder what they carry.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { correlationOf } from '../../../src/events/saga-headers.ts';
import { FerryError } from '../../../src/kernel/errors.ts';
import { decide } from '../../../src/saga/decide.ts';
import type { HistoryEntry, OperatorAction, SagaInput, SagaInstance, Timer } from '../../../src/saga/instance.ts';
import { isEnded } from '../../../src/saga/states.ts';
import { eventId } from '../../support/relay-fixtures.ts';
import {
  type ModelCommand,
  ModelParticipants,
  type ModelReply,
  type Mood,
  TRIP_STEPS,
  type TripStep,
  tripSaga,
} from '../../support/saga-model.ts';

const SAGA = tripSaga();
const ID = '019b7c5e-8c00-7000-8000-00000000a001';

type ReplyInput = Extract<SagaInput, { kind: 'reply' }>;

const EVENTS = [
  'command',
  'command',
  'reply',
  'reply',
  'timer',
  'repeat-command',
  'repeat-reply',
  'lose-command',
  'lose-reply',
  'crash',
] as const;
type WorldEvent = (typeof EVENTS)[number] | OperatorAction;

interface Happening {
  readonly what: WorldEvent;
  /** Chooses among what is on its way: reordering. */
  readonly pick: number;
  readonly mood: Mood;
}

class World {
  readonly participants = new ModelParticipants();
  readonly history: HistoryEntry[] = [];
  readonly sent = new Set<string>();
  readonly skipped = new Set<TripStep>();
  instance: SagaInstance;
  #commands: ModelCommand[] = [];
  #replies: ReplyInput[] = [];
  #timer: Timer = null;
  #ids = 0;

  constructor() {
    this.instance = {
      id: ID,
      name: SAGA.name,
      version: 1,
      key: 'order-1',
      state: 'running',
      data: { orderId: 'order-1', amount: 7, receipts: 0 },
      step: null,
      tries: 0,
      cancelling: false,
      problem: null,
      traceparent: null,
      steps: new Map(),
    };
    this.input({ kind: 'start' });
  }

  happen({ what, pick, mood }: Happening): void {
    const command = this.#commands[pick % Math.max(1, this.#commands.length)];
    const reply = this.#replies[pick % Math.max(1, this.#replies.length)];
    const without = <T>(items: readonly T[], item: T) => items.filter((other) => other !== item);
    if ((what === 'command' || what === 'repeat-command') && command !== undefined) {
      const answered = this.#participate(command, mood);
      if (answered && what === 'command') this.#commands = without(this.#commands, command);
    } else if ((what === 'reply' || what === 'repeat-reply') && reply !== undefined) {
      if (what === 'reply') this.#replies = without(this.#replies, reply);
      this.input(reply);
    } else if (what === 'lose-command' && command !== undefined) {
      this.#commands = without(this.#commands, command); // dead-lettered at its participant
    } else if (what === 'lose-reply' && reply !== undefined) {
      this.#replies = without(this.#replies, reply);
    } else if (what === 'crash' && reply !== undefined) {
      decide(SAGA, this.instance, reply, () => eventId(++this.#ids)); // decided and rolled back
    } else if (what === 'timer' && typeof this.#timer === 'number') {
      this.input({ kind: 'timer', lateMs: mood === 'agree' ? 0 : 3_600_000 });
    } else if (what === 'retry' || what === 'skip' || what === 'compensate' || what === 'cancel') {
      this.#operate(what);
    }
  }

  /** Nothing fails any more; operators retry what waits for them. Throws if that does not end the saga. */
  settle(): void {
    for (let round = 0; round < 1_000; round++) {
      const [command] = this.#commands;
      const [reply] = this.#replies;
      if (command !== undefined) this.happen({ what: 'command', pick: 0, mood: 'agree' });
      else if (reply !== undefined) this.happen({ what: 'reply', pick: 0, mood: 'agree' });
      else if (isEnded(this.instance.state)) return;
      else if (typeof this.#timer === 'number') this.input({ kind: 'timer', lateMs: 0 });
      else this.#operate('retry');
    }
    assert.fail(`the saga does not end: ${this.instance.state} at ${this.instance.step}`);
  }

  input(input: SagaInput): void {
    const decision = decide(SAGA, this.instance, input, () => eventId(++this.#ids));
    assert.ok(decision !== null, 'a reply of the model is none of the saga’s');
    this.instance = decision.instance;
    this.history.push(...decision.history);
    if (decision.timer !== 'unchanged') this.#timer = decision.timer;
    for (const { headers, type, payload } of decision.commands) {
      const correlation = correlationOf(headers);
      assert.ok(correlation !== null);
      const { step, purpose, attempt } = correlation;
      const name = `${step} ${purpose} ${attempt}`;
      assert.ok(!this.sent.has(name), `${name} is sent twice`);
      this.sent.add(name);
      assert.ok(purpose === 'do' || !this.participants.holds(ID, 'handover'), `${name} is sent behind the pivot`);
      if (purpose === 'undo' && attempt === 1) this.#checkReverse(step as TripStep);
      const { amount } = payload as { amount: number };
      this.#commands.push({ ...correlation, type, amount });
    }
  }

  /** Undoing begins with a step when every later one is undone. */
  #checkReverse(step: TripStep): void {
    const later = TRIP_STEPS.slice(TRIP_STEPS.indexOf(step) + 1).map((name) => this.instance.steps.get(name)?.state);
    const left = later.filter((state) => state === 'done' || state === 'unknown' || state === 'undoing');
    assert.deepEqual(left, [], `${step} is undone before a later step`);
  }

  #participate(command: ModelCommand, mood: Mood): boolean {
    const reply: ModelReply | null = this.participants.handle(command, mood);
    if (reply === null) return false;
    const { step, purpose, attempt } = command;
    this.#replies.push({ kind: 'reply', eventId: eventId(++this.#ids), ...reply, step, purpose, attempt });
    return true;
  }

  #operate(action: OperatorAction): void {
    const { step } = this.instance;
    const before = step === null ? undefined : this.instance.steps.get(step)?.state;
    try {
      this.input({ kind: 'operator', action, actor: 'ada', reason: 'because' });
      if (action !== 'skip' || step === null) return;
      this.skipped.add(step as TripStep);
      if (before === 'undoing' || before === 'undo_failed') this.participants.undoByHand(ID, step as TripStep);
    } catch (error) {
      if (!(error instanceof FerryError) || error.code !== 'CONFLICT') throw error;
    }
  }
}

/** Each row goes on where the one before it ended. */
function checkHistory(history: readonly HistoryEntry[]): void {
  const at = new Map<string | null, string>();
  for (const { step, from, to } of history) {
    if (at.has(step)) assert.equal(from, at.get(step), `${step}: from ${from}, but it was ${at.get(step)}`);
    at.set(step, to);
  }
}

function checkBalance(world: World): void {
  const { state } = world.instance;
  assert.ok(isEnded(state));
  const pivot = TRIP_STEPS.indexOf('handover');
  for (const [index, step] of TRIP_STEPS.entries()) {
    if (world.skipped.has(step) && index >= pivot) continue; // done by hand, or not: the operator knows
    const wanted = state === 'completed' && !world.skipped.has(step);
    assert.equal(
      world.participants.holds(ID, step),
      wanted,
      `${state}, and ${step} is ${wanted ? 'not done' : 'not undone'}`,
    );
  }
}

const happenings = (operators: readonly OperatorAction[]) =>
  fc.array(
    fc.record<Happening>({
      what: fc.constantFrom<WorldEvent>(...EVENTS, ...EVENTS, ...operators),
      pick: fc.nat(9),
      mood: fc.constantFrom<Mood>('agree', 'agree', 'agree', 'agree', 'agree', 'agree', 'refuse', 'crash'),
    }),
    { maxLength: 150, size: 'max' },
  );

function live(course: readonly Happening[]): World {
  const world = new World();
  for (const happening of course) world.happen(happening);
  world.settle();
  checkHistory(world.history);
  checkBalance(world);
  return world;
}

test('it ends done or undone, whatever fails; operators retry, compensate and cancel', () => {
  const met = { completed: 0, compensated: 0, stuck: 0, compensation_failed: 0, late: 0 };
  fc.assert(
    fc.property(happenings(['retry', 'compensate', 'cancel']), (course) => {
      const { instance, history } = live(course);
      if (instance.state === 'completed' || instance.state === 'compensated') met[instance.state]++;
      for (const state of ['stuck', 'compensation_failed'] as const) {
        if (history.some(({ to }) => to === state)) met[state]++;
      }
      if (history.some(({ cause }) => cause === 'late-reply')) met.late++;
    }),
    { numRuns: 3_000 },
  );
  assert.ok(Math.min(...Object.values(met)) > 5, `hardly met: ${JSON.stringify(met)}`);
});

test('a step that an operator skips leaves nothing behind either, unless it lies behind the pivot', () => {
  let skips = 0;
  fc.assert(
    fc.property(happenings(['retry', 'skip', 'compensate', 'cancel']), (course) => {
      skips += live(course).skipped.size;
    }),
    { numRuns: 3_000 },
  );
  assert.ok(skips > 100, `only ${skips} skips`);
});
