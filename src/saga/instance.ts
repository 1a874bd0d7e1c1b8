/** One run of a saga: where it stands, and what a decision changes about that. */
import type { CommandPurpose } from '../events/saga-headers.ts';
import type { ErrorCode } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import type { SagaData } from './definition.ts';
import type { InstanceState, StepState } from './states.ts';

export interface StepRecord {
  readonly state: StepState;
  /** How often its command was sent; the last one's number. */
  readonly attempt: number;
  readonly undoAttempt: number;
}

/** Why an instance is undone, or waits; `text` may hold words of a participant. */
export interface Problem {
  readonly code: ErrorCode;
  readonly text: string;
}

export interface SagaInstance {
  /** UUIDv7. */
  readonly id: string;
  readonly name: string;
  readonly version: number;
  /** What it is about, unique among the sagas of its name; also the aggregate id of all its commands. */
  readonly key: string;
  readonly state: InstanceState;
  readonly data: SagaData;
  /** The step whose reply is waited for, or where it is stuck; null once it has ended. */
  readonly step: string | null;
  /** How often that step's command was sent since it was last given all its tries. */
  readonly tries: number;
  /** An operator wants it undone as soon as the step in flight is answered. */
  readonly cancelling: boolean;
  readonly problem: Problem | null;
  /** W3C trace context of what started it; its commands continue the trace. */
  readonly traceparent: string | null;
  /** By name; a step that is missing is pending. */
  readonly steps: ReadonlyMap<string, StepRecord>;
}

export const PENDING: StepRecord = { state: 'pending', attempt: 0, undoAttempt: 0 };

export type OperatorAction = 'retry' | 'skip' | 'compensate' | 'cancel';

/** What can happen to an instance. */
export type SagaInput =
  | { readonly kind: 'start' }
  | {
      readonly kind: 'reply';
      readonly eventId: EventId;
      readonly type: string;
      readonly value: unknown;
      readonly step: string;
      readonly purpose: CommandPurpose;
      readonly attempt: number;
    }
  /** What was to happen at `due_at` has its turn, so much later. */
  | { readonly kind: 'timer'; readonly lateMs: number }
  | { readonly kind: 'operator'; readonly action: OperatorAction; readonly actor: string; readonly reason: string };

export type HistoryCause = 'start' | 'command' | 'reply' | 'late-reply' | 'timeout' | 'operator';

/** One row of the history: a transition of the instance (`step` is null) or of a step, or something that changed nothing (from = to). */
export interface HistoryEntry {
  readonly cause: HistoryCause;
  readonly step: string | null;
  readonly from: InstanceState | StepState | null;
  readonly to: InstanceState | StepState;
  readonly purpose: CommandPurpose | null;
  readonly attempt: number | null;
  /** The command that was sent, or the reply that came. */
  readonly eventId: EventId | null;
  readonly actor: string | null;
  readonly reason: string | null;
}

/** A command on its way to the outbox. */
export interface OutgoingCommand {
  readonly id: EventId;
  readonly aggregateType: string;
  readonly aggregateId: string;
  readonly type: string;
  readonly payload: unknown;
  readonly headers: Readonly<Record<string, string>>;
  readonly traceparent: string | null;
}

/** When the instance is to be looked at again: in so many milliseconds, never (null), or as it was. */
export type Timer = number | null | 'unchanged';

export interface Decision {
  readonly instance: SagaInstance;
  readonly commands: readonly OutgoingCommand[];
  readonly history: readonly HistoryEntry[];
  readonly timer: Timer;
}
