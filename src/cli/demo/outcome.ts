/** What is asked of the demo, and what came of it. */
import type { IntegrityReport } from '../../reconcile/integrity.ts';
import type { DatabaseLayout } from '../commerce-stack.ts';
import type { CommonOptions } from '../session.ts';
import type { RelayKill } from './killers.ts';
import type { TrafficResult } from './order-traffic.ts';
import type { EventPath } from './proof.ts';
import type { SagaReport } from './saga-proof.ts';

export interface DemoOptions extends CommonOptions {
  readonly orders: number;
  readonly killRelay: number;
  /** How often each other role is killed. */
  readonly killOthers: number;
  /** Part of the orders that is refused at each step, and of the payment provider's answers that go wrong: 0 to 1. */
  readonly failureRate: number;
  readonly databases: DatabaseLayout;
  readonly keep?: boolean;
}

export interface DemoOutcome {
  readonly traffic: TrafficResult;
  readonly kills: readonly RelayKill[];
  /** How often each other process was killed, by its name. */
  readonly otherKills: Readonly<Record<string, number>>;
  readonly sagas: SagaReport;
  readonly integrity: IntegrityReport;
  /** Rows of each outbox, by database. */
  readonly outboxes: Readonly<Record<string, number>>;
  readonly path: EventPath | null;
  readonly seconds: number;
}
