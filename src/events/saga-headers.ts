/**
 * How a command and its reply find each other: headers of the command's event, which a participant puts on its reply as they came. They go
 * through the outbox's `headers` column, so a participant in any language can do it.
 */
export const SAGA_HEADER = {
  /** Id of the saga's instance, a UUID. */
  saga: 'ferry_saga_id',
  /** Name of its step. */
  step: 'ferry_saga_step',
  /** What the command is for: `do` or `undo`. */
  purpose: 'ferry_saga_purpose',
  /** Number of the try, from 1: the same command may be sent again when no reply came. */
  attempt: 'ferry_saga_attempt',
} as const;

export type CommandPurpose = 'do' | 'undo';

export interface SagaCorrelation {
  readonly sagaId: string;
  readonly step: string;
  readonly purpose: CommandPurpose;
  readonly attempt: number;
}

export function correlationHeaders({ sagaId, step, purpose, attempt }: SagaCorrelation): Record<string, string> {
  return {
    [SAGA_HEADER.saga]: sagaId,
    [SAGA_HEADER.step]: step,
    [SAGA_HEADER.purpose]: purpose,
    [SAGA_HEADER.attempt]: String(attempt),
  };
}

/** The correlation that a record's headers carry; null for an event that is no part of a saga, or whose headers nobody of us wrote. */
export function correlationOf(headers: Readonly<Record<string, string>>): SagaCorrelation | null {
  const { [SAGA_HEADER.saga]: sagaId, [SAGA_HEADER.step]: step, [SAGA_HEADER.purpose]: purpose } = headers;
  const attempt = Number(headers[SAGA_HEADER.attempt]);
  if (sagaId === undefined || !UUID.test(sagaId) || step === undefined) return null;
  if (purpose !== 'do' && purpose !== 'undo') return null;
  return Number.isInteger(attempt) && attempt >= 1 ? { sagaId, step, purpose, attempt } : null;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
