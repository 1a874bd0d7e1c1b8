/**
 * What follows from what happened: the whole behaviour of a saga as one pure function from an instance and an input to the instance's new
 * form, the commands to send, the timer and the history. No clock, no database.
 */

import { FerryError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import { type AnyReplyRule, type AnyStep, pivotIndex, type Saga } from './definition.ts';
import { SagaDraft } from './draft.ts';
import type { Decision, OperatorAction, Problem, SagaInput, SagaInstance } from './instance.ts';
import { isEnded, type StepState } from './states.ts';

type Reply = Extract<SagaInput, { kind: 'reply' }>;
type Operation = Extract<SagaInput, { kind: 'operator' }>;

/** May be undone when the saga is: it happened, or nobody knows that it did not. */
const TO_UNDO: ReadonlySet<StepState> = new Set<StepState>(['done', 'unknown']);
/** Taken for something that did not happen, or does not any more. A late `done` says otherwise. */
const GIVEN_UP: ReadonlySet<StepState> = new Set<StepState>(['refused', 'undone', 'skipped']);

/**
 * A timer that is later than this was not run by anybody, so nobody was there to take the reply either: it may wait in Kafka still. Such a
 * timer gives nothing up; it tries once more.
 */
const DOWNTIME_MS = 60_000;

/**
 * Decides about one instance; `newId` makes the ids of commands. Null for a reply that is none of the definition's. Throws what the
 * definition's own functions throw (payload, merge, reason), and CONFLICT for an operator's action that the state does not allow.
 */
export function decide(saga: Saga, instance: SagaInstance, input: SagaInput, newId: () => EventId): Decision | null {
  const draft = new SagaDraft(instance, input, newId);
  const course = new Course(saga.steps, draft);
  if (input.kind === 'start') course.start();
  else if (input.kind === 'timer') course.expire(input.lateMs);
  else if (input.kind === 'operator') course.operate(input);
  else if (!course.reply(input)) return null;
  return draft.decision;
}

class Course {
  readonly #steps: ReadonlyArray<AnyStep>;
  readonly #pivot: number;
  readonly #draft: SagaDraft;

  constructor(steps: ReadonlyArray<AnyStep>, draft: SagaDraft) {
    this.#steps = steps;
    this.#pivot = pivotIndex(steps);
    this.#draft = draft;
  }

  start(): void {
    this.#draft.begin();
    for (const step of this.#steps) if (step.command === null) this.#draft.doneBefore(step);
    this.#advance();
  }

  /** Whether the reply is one that the definition knows; then it is noted, whatever follows from it. */
  reply(reply: Reply): boolean {
    const step = this.#steps.find(({ name }) => name === reply.step);
    const command = reply.purpose === 'do' ? step?.command : step?.compensation;
    const rule = command?.replies[reply.type];
    if (step === undefined || rule === undefined) return false;
    if (reply.purpose === 'do') this.#answeredDo(step, rule, reply);
    else this.#answeredUndo(step, rule, reply);
    return true;
  }

  #answeredDo(step: AnyStep, rule: AnyReplyRule, { value }: Reply): void {
    const { state } = this.#draft.record(step);
    const awaited = state === 'sent' || (state === 'refused' && this.#draft.state === 'stuck');
    if (rule.outcome === 'done' && awaited) {
      this.#draft.merge(rule.merge?.(value, this.#draft.data));
      this.#draft.move(step, 'done');
      this.#goOn();
    } else if (rule.outcome === 'refused' && state === 'sent') {
      const reason = rule.reason(value);
      this.#draft.move(step, 'refused', reason);
      this.#refused(step, reason);
    } else if (rule.outcome === 'done' && GIVEN_UP.has(state)) {
      this.#happenedAfterAll(step);
    } else {
      this.#draft.keep(step, 'late-reply');
    }
  }

  #refused(step: AnyStep, reason: string): void {
    const problem: Problem = { code: 'SAGA_STEP_REFUSED', text: `${step.name}: ${reason}` };
    if (this.#steps.indexOf(step) <= this.#pivot) {
      this.#compensate(problem);
      return;
    }
    if (this.#draft.state === 'running') this.#draft.to('stuck', problem);
    this.#draft.stopTimer();
  }

  /** A late `done` of a step that was given up: it is undone when its turn comes, unless the pivot may have been passed. */
  #happenedAfterAll(step: AnyStep): void {
    if (step.compensation === null || !this.#mayUndo()) {
      this.#draft.keep(step, 'late-reply');
      return;
    }
    this.#draft.move(step, 'unknown', 'it happened after all: it is undone');
    if (!isEnded(this.#draft.state)) return;
    this.#draft.to(this.#draft.state === 'completed' ? 'running' : 'compensating');
    this.#goOn();
  }

  #answeredUndo(step: AnyStep, rule: AnyReplyRule, { value, attempt }: Reply): void {
    const { state, undoAttempt } = this.#draft.record(step);
    const awaited = state === 'undoing' || state === 'undo_failed';
    if (rule.outcome === 'done' && awaited) {
      this.#draft.merge(rule.merge?.(value, this.#draft.data));
      this.#draft.move(step, 'undone');
      this.#goOn();
    } else if (rule.outcome === 'refused' && state === 'undoing' && attempt === undoAttempt) {
      const reason = rule.reason(value);
      if (this.#draft.tries >= step.retry.maxTries) this.#undoFailed(step, 'SAGA_STEP_REFUSED', reason);
      else this.#draft.keep(step, 'reply', reason); // the timer that runs sends it again
    } else {
      this.#draft.keep(step, 'late-reply');
    }
  }

  expire(lateMs: number): void {
    const step = this.#current();
    const state = step === null ? null : this.#draft.record(step).state;
    if (step === null || (state !== 'sent' && state !== 'undoing')) {
      this.#draft.stopTimer();
      return;
    }
    const purpose = state === 'sent' ? 'do' : 'undo';
    if (this.#draft.tries < step.retry.maxTries || lateMs > DOWNTIME_MS) {
      this.#draft.send(step, purpose, 'again');
    } else if (purpose === 'undo') {
      this.#undoFailed(step, 'SAGA_STEP_UNANSWERED', unanswered(this.#draft.tries));
    } else if (this.#steps.indexOf(step) < this.#pivot) {
      this.#giveUp(step, { code: 'SAGA_STEP_UNANSWERED', text: `${step.name}: ${unanswered(this.#draft.tries)}` });
    } else {
      // It may have happened and cannot be undone, so it is asked about until there is an answer: to repeat the command is to ask.
      if (this.#draft.state === 'running') {
        this.#draft.to('stuck', {
          code: 'SAGA_STEP_UNANSWERED',
          text: `${step.name}: ${unanswered(this.#draft.tries)}`,
        });
      }
      this.#draft.send(step, purpose, 'again');
    }
  }

  operate({ action, reason }: Operation): void {
    const step = this.#current();
    if (step === null || isEnded(this.#draft.state)) throw this.#conflict(action, 'it has ended');
    if (action === 'retry') this.#retry(step);
    else if (action === 'skip') this.#skip(step);
    else {
      if (this.#isCompensating()) throw this.#conflict(action, `it is ${this.#draft.state}`);
      if (!this.#mayUndo())
        throw this.#conflict(action, 'the pivot was sent, and what comes after it only goes forward');
      if (action === 'compensate') this.#giveUp(step, { code: 'SAGA_CANCELLED', text: reason });
      else if (this.#draft.cancelling) throw this.#conflict(action, 'it is being cancelled');
      else {
        this.#draft.cancelAfterStep();
        this.#draft.keep(step, 'operator', `cancel after this step: ${reason}`);
      }
    }
  }

  #retry(step: AnyStep): void {
    const { state } = this.#draft.record(step);
    this.#resume();
    this.#draft.keep(step, 'operator');
    this.#draft.send(step, state === 'sent' || state === 'refused' ? 'do' : 'undo', 'fresh');
  }

  /** A step that was sent may still happen, so it is undone before the saga goes on: that leaves a tombstone which a late command meets. */
  #skip(step: AnyStep): void {
    const mayHappen = this.#draft.record(step).state === 'sent' && step.compensation !== null;
    this.#draft.move(step, mayHappen ? 'unknown' : 'skipped');
    this.#goOn();
  }

  /** The step's outcome is unknown, and stays so: it is undone with the others. */
  #giveUp(step: AnyStep, problem: Problem): void {
    this.#draft.move(step, 'unknown');
    this.#compensate(problem);
  }

  /** What was waited for is settled: the next step, forward or back. */
  #goOn(): void {
    this.#resume();
    if (this.#isCompensating()) {
      this.#undoNext();
      return;
    }
    this.#draft.solved();
    this.#advance();
  }

  /** Forward; a step that may have happened although it was skipped is undone before the next one is done. */
  #advance(): void {
    if (this.#draft.cancelling) {
      this.#compensate({ code: 'SAGA_CANCELLED', text: 'cancelled by an operator' });
      return;
    }
    const leftOver = this.#steps.findLast((step) => this.#draft.record(step).state === 'unknown');
    if (leftOver !== undefined) {
      this.#draft.send(leftOver, 'undo', 'fresh');
      return;
    }
    const next = this.#steps.find((step) => this.#draft.record(step).state === 'pending');
    if (next !== undefined) {
      this.#draft.send(next, 'do', 'fresh');
      return;
    }
    this.#draft.to('completed');
    this.#draft.end();
  }

  #compensate(problem: Problem): void {
    if (!this.#mayUndo()) throw new Error('a saga was to be undone behind its pivot');
    this.#resume();
    this.#draft.to('compensating', problem);
    this.#undoNext();
  }

  #undoNext(): void {
    const next = this.#steps.findLast(
      (step) => step.compensation !== null && TO_UNDO.has(this.#draft.record(step).state),
    );
    if (next !== undefined) {
      this.#draft.send(next, 'undo', 'fresh');
      return;
    }
    this.#draft.to('compensated');
    this.#draft.end();
  }

  #undoFailed(step: AnyStep, code: Problem['code'], why: string): void {
    this.#draft.move(step, 'undo_failed', why);
    this.#draft.to(this.#isCompensating() ? 'compensation_failed' : 'stuck', { code, text: `${step.name}: ${why}` });
    this.#draft.stopTimer();
  }

  /** It waits for an operator no longer. */
  #resume(): void {
    if (this.#draft.state === 'stuck') this.#draft.to('running');
    else if (this.#draft.state === 'compensation_failed') this.#draft.to('compensating');
  }

  /** Of the whole saga; a skipped step is undone while the saga goes forward. */
  #isCompensating(): boolean {
    return this.#draft.state === 'compensating' || this.#draft.state === 'compensation_failed';
  }

  /** Whether it is certain that the pivot has not happened and will not. */
  #mayUndo(): boolean {
    const pivot = this.#steps[this.#pivot];
    const state = pivot === undefined ? 'pending' : this.#draft.record(pivot).state;
    return state === 'pending' || state === 'refused';
  }

  #current(): AnyStep | null {
    return this.#steps.find(({ name }) => name === this.#draft.current) ?? null;
  }

  #conflict(action: OperatorAction, why: string): FerryError {
    return new FerryError('CONFLICT', `${action} is not possible on this saga: ${why}`, {
      details: { action, state: this.#draft.state },
    });
  }
}

function unanswered(tries: number): string {
  return `no answer to ${tries} ${tries === 1 ? 'try' : 'tries'}`;
}
