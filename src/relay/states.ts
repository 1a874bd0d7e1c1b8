/**
 * The states of a relay and the transitions between them; docs/ARCHITECTURE.md draws this table (a test holds both together).
 */
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';

export const TRANSITIONS = {
  /** Not running. */
  stopped: ['connecting'],
  /** Opening the replication stream and Kafka. */
  connecting: ['standby', 'comparing', 'backing-off', 'refused', 'stopped'],
  /** Another relay of this name holds the slot: waiting to take over. */
  standby: ['connecting', 'backing-off', 'stopped'],
  /** Holding the slot and the producer: comparing the checkpoint with the database. */
  comparing: ['backfilling', 'streaming', 'backing-off', 'refused', 'stopped'],
  /** Publishing the rows that are older than the slot. */
  backfilling: ['streaming', 'backing-off', 'refused', 'draining', 'stopped'],
  /** Publishing what is committed. */
  streaming: ['draining', 'backing-off', 'refused', 'stopped'],
  /** Asked to stop: finishing the transaction in flight. */
  draining: ['stopped', 'backing-off'],
  /** Something is unreachable: waiting before the next attempt. */
  'backing-off': ['connecting', 'stopped'],
  /** Going on could lose or repeat events: an operator must decide. */
  refused: ['stopped'],
} as const satisfies Record<string, readonly string[]>;

export type RelayState = keyof typeof TRANSITIONS;

export const RELAY_STATES = Object.keys(TRANSITIONS) as RelayState[];

const AT_WORK: ReadonlySet<string> = new Set<RelayState>(['streaming', 'backfilling', 'standby']);

/** Whether a relay in that state does its work, or is ready to take it over. */
export function isAtWork(state: string): boolean {
  return AT_WORK.has(state);
}

/** Holds the state; every change is checked, logged and exported. */
export class RelayStateMachine {
  #state: RelayState = 'stopped';
  readonly #logger: Logger;
  readonly #metrics: Metrics;

  constructor(logger: Logger, metrics: Metrics) {
    this.#logger = logger;
    this.#metrics = metrics;
    this.#export();
  }

  get state(): RelayState {
    return this.#state;
  }

  /** Throws on a transition that the table does not have: that is a bug, not a condition. Going to the current state changes nothing. */
  to(next: RelayState): void {
    if (next === this.#state) return;
    const allowed: readonly string[] = TRANSITIONS[this.#state];
    if (!allowed.includes(next)) throw new Error(`relay cannot go from ${this.#state} to ${next}`);
    this.#logger.info({ from: this.#state, to: next }, 'relay state');
    this.#state = next;
    this.#export();
  }

  #export(): void {
    for (const state of RELAY_STATES) this.#metrics.relayState.record(state === this.#state ? 1 : 0, { state });
  }
}
