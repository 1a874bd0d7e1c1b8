/** What an operator does about a saga, with the reason in its history and in the audit, both in the transaction of the action. */
import { type Actor, recordOperation } from '../domain/audit.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { SagaEngine } from '../saga/engine.ts';
import type { OperatorAction } from '../saga/instance.ts';

/** With what each does, in a few words. */
export const OPERATOR_ACTIONS = {
  retry: 'Send the current step’s command again, with all its tries',
  skip: 'Take the current step as settled and go on; one that may still happen is undone first',
  compensate: 'Undo the saga now, whatever the step in flight comes to',
  cancel: 'Undo the saga as soon as the step in flight is answered',
} as const satisfies Record<OperatorAction, string>;

export interface OperatorRequest {
  readonly sagaId: string;
  readonly action: OperatorAction;
  /** Why, for whoever reads the history. */
  readonly reason: string;
}

/**
 * Does it in the caller's transaction. Rejects with NOT_FOUND, CONFLICT naming the state that does not allow it, or SAGA_DEFINITION_MISSING
 * if the engine does not know the saga's definition.
 */
export async function operateSaga(
  tx: Queryable,
  engine: SagaEngine,
  actor: Actor,
  { sagaId, action, reason }: OperatorRequest,
): Promise<void> {
  await engine.operate(tx, { sagaId, action, actor: actor.principal, reason });
  await recordOperation(tx, actor, { action: `saga.${action}`, subject: `saga/${sagaId}`, eventId: null, reason });
}
