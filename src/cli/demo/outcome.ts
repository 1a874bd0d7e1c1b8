/** What is asked of the demo, and what came of it. */
import type { IntegrityReport } from '../../reconcile/integrity.ts';
import type { CommonOptions } from '../session.ts';
import type { TrafficResult } from './order-traffic.ts';
import type { EventPath } from './proof.ts';
import type { RelayKill } from './relay-killer.ts';

export interface DemoOptions extends CommonOptions {
  readonly orders: number;
  readonly killRelay: number;
  readonly keep?: boolean;
}

export interface DemoOutcome {
  readonly traffic: TrafficResult;
  readonly kills: readonly RelayKill[];
  readonly integrity: IntegrityReport;
  readonly path: EventPath | null;
  readonly seconds: number;
}
