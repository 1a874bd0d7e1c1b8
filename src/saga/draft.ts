/**
 * A decision in the making: moves the instance and its steps along their tables, and notes each move, each command and the timer. It knows
 * how, not when; that is decide.ts.
 */
import { type CommandPurpose, correlationHeaders } from '../events/saga-headers.ts';
import { backoffMs } from '../kernel/deadline.ts';
import type { EventId } from '../kernel/event-id.ts';
import type { AnyStep, SagaData } from './definition.ts';
import {
  type Decision,
  type HistoryCause,
  type HistoryEntry,
  type OutgoingCommand,
  PENDING,
  type Problem,
  type SagaInput,
  type SagaInstance,
  type StepRecord,
  type Timer,
} from './instance.ts';
import { checkInstanceTransition, checkStepTransition, type InstanceState, type StepState } from './states.ts';

/** Text of a participant or an operator, as the history keeps it: Postgres cannot store U+0000, and nobody reads more. */
const MAX_REASON_LENGTH = 1_000;

export class SagaDraft {
  readonly #input: SagaInput;
  readonly #newId: () => EventId;
  readonly #steps: Map<string, StepRecord>;
  readonly #commands: OutgoingCommand[] = [];
  readonly #history: HistoryEntry[] = [];
  #instance: SagaInstance;
  #timer: Timer = 'unchanged';

  constructor(instance: SagaInstance, input: SagaInput, newId: () => EventId) {
    this.#instance = instance;
    this.#input = input;
    this.#newId = newId;
    this.#steps = new Map(instance.steps);
  }

  get state(): InstanceState {
    return this.#instance.state;
  }

  get current(): string | null {
    return this.#instance.step;
  }

  get tries(): number {
    return this.#instance.tries;
  }

  get cancelling(): boolean {
    return this.#instance.cancelling;
  }

  get data(): SagaData {
    return this.#instance.data;
  }

  record(step: AnyStep): StepRecord {
    return this.#steps.get(step.name) ?? PENDING;
  }

  begin(): void {
    this.#note({ step: null, from: null, to: this.state });
  }

  /** Moves the instance. A problem stays noted until another takes its place, or `solved`. */
  to(state: InstanceState, problem?: Problem): void {
    checkInstanceTransition(this.state, state);
    this.#note({ step: null, from: this.state, to: state, ...because(problem?.text) });
    this.#change({
      state,
      ...(problem === undefined ? {} : { problem: { ...problem, text: storable(problem.text) } }),
    });
  }

  solved(): void {
    this.#change({ problem: null });
  }

  merge(part: SagaData | undefined): void {
    if (part !== undefined) this.#change({ data: { ...this.data, ...part } });
  }

  cancelAfterStep(): void {
    this.#change({ cancelling: true });
  }

  /** Moves a step by what has just happened. */
  move(step: AnyStep, state: StepState, reason?: string): void {
    const record = this.record(step);
    checkStepTransition(record.state, state);
    this.#note({ step: step.name, from: record.state, to: state, ...because(reason) });
    this.#steps.set(step.name, { ...record, state });
  }

  /** A step that was done before the saga began. */
  doneBefore(step: AnyStep): void {
    this.#steps.set(step.name, { ...PENDING, state: 'done' });
  }

  /** What happened changed nothing about the step. */
  keep(step: AnyStep, cause: HistoryCause, reason?: string): void {
    const { state } = this.record(step);
    this.#note({ cause, step: step.name, from: state, to: state, ...because(reason) });
  }

  /** Sends the step's command with a new number, from its first try (`fresh`) or as one more; waits for its reply. */
  send(step: AnyStep, purpose: CommandPurpose, fresh: 'fresh' | 'again'): void {
    const { state: from } = this.record(step);
    const to = purpose === 'do' ? 'sent' : 'undoing';
    if (from !== to) checkStepTransition(from, to);
    this.#emit(step, purpose, to);
    const tries = fresh === 'fresh' ? 1 : this.tries + 1;
    this.#change({ step: step.name, tries });
    // The pause after a try belongs to the wait for its reply: one that comes then counts.
    this.#timer = step.timeoutMs + backoffMs(tries - 1, step.retry.baseMs, step.retry.maxMs);
  }

  /** Nothing is waited for any more, but an operator. */
  stopTimer(): void {
    this.#timer = null;
  }

  end(): void {
    this.#change({ step: null, tries: 0, cancelling: false });
    this.#timer = null;
  }

  get decision(): Decision {
    const instance = { ...this.#instance, steps: this.#steps };
    return { instance, commands: this.#commands, history: this.#history, timer: this.#timer };
  }

  #emit(step: AnyStep, purpose: CommandPurpose, to: StepState): void {
    const command = purpose === 'do' ? step.command : step.compensation;
    if (command === null) throw new Error(`step ${step.name} has nothing to ${purpose}`);
    const record = this.record(step);
    const attempt = (purpose === 'do' ? record.attempt : record.undoAttempt) + 1;
    const { id: sagaId, key: aggregateId, traceparent } = this.#instance;
    const { aggregateType, type } = command;
    const headers = correlationHeaders({ sagaId, step: step.name, purpose, attempt });
    const id = this.#newId();
    const payload = command.payload(this.data);
    this.#commands.push({ id, aggregateType, aggregateId, type, payload, headers, traceparent });
    this.#note({ cause: 'command', step: step.name, from: record.state, to, purpose, attempt, eventId: id });
    this.#steps.set(step.name, { ...record, state: to, [purpose === 'do' ? 'attempt' : 'undoAttempt']: attempt });
  }

  #change(changes: Partial<SagaInstance>): void {
    this.#instance = { ...this.#instance, ...changes };
  }

  /** What the input says about itself is the default of every row that it leads to. */
  #note(entry: Pick<HistoryEntry, 'step' | 'from' | 'to'> & Partial<HistoryEntry>): void {
    const noted = { ...origin(this.#input, entry.cause), ...entry };
    this.#history.push({ ...noted, reason: noted.reason === null ? null : storable(noted.reason) });
  }
}

type Origin = Pick<HistoryEntry, 'cause' | 'purpose' | 'attempt' | 'eventId' | 'actor' | 'reason'>;

function origin(input: SagaInput, cause?: HistoryCause): Origin {
  const none = { purpose: null, attempt: null, eventId: null, actor: null, reason: null };
  switch (input.kind) {
    case 'start':
      return { ...none, cause: 'start' };
    case 'timer':
      return { ...none, cause: 'timeout' };
    case 'operator':
      return { ...none, cause: 'operator', actor: input.actor, reason: input.reason };
    case 'reply': {
      if (cause === 'command') return { ...none, cause };
      const purpose: CommandPurpose = input.purpose;
      return { ...none, cause: 'reply', purpose, attempt: input.attempt, eventId: input.eventId };
    }
  }
}

function because(reason: string | undefined): { reason?: string } {
  return reason === undefined ? {} : { reason };
}

function storable(text: string): string {
  return text.replaceAll('\0', '�').toWellFormed().slice(0, MAX_REASON_LENGTH);
}
