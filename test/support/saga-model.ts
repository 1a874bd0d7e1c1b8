/**
 * A saga of seven steps with participants that behave as docs/SAGAS.md asks: money and pieces move between accounts of a model, so that
 * whatever the orchestrator does can be weighed afterwards. The participants live in memory and answer through whatever bus a test has.
 */
import type { SagaCorrelation } from '../../src/events/saga-headers.ts';
import { defineSaga, type RetryPolicy, type SagaCommand } from '../../src/saga/definition.ts';

export interface TripData {
  readonly orderId: string;
  readonly amount: number;
  readonly receipts: number;
}

/** One type for each command and reply; the payloads say only what the model weighs. */
export interface TripPayloads {
  'trip.Do': { readonly amount: number };
  'trip.Undo': { readonly amount: number };
  'trip.Done': { readonly amount: number };
  'trip.Undone': { readonly amount: number };
  'trip.Refused': { readonly why: string };
}

/** `order` is done before the saga and `handover` is the pivot. */
export const TRIP_STEPS = ['order', 'payment', 'inventory', 'shipping', 'handover', 'issue', 'complete'] as const;
export type TripStep = (typeof TRIP_STEPS)[number];
const PIVOT = TRIP_STEPS.indexOf('handover');

const RETRY: RetryPolicy = { maxTries: 3, baseMs: 1, maxMs: 4 };

const doIt = (step: TripStep): SagaCommand<TripData, TripPayloads> => ({
  aggregateType: `${step}-command`,
  type: 'trip.Do',
  payload: ({ amount }) => ({ amount }),
  replies: {
    'trip.Done': { outcome: 'done', merge: (_, data) => ({ receipts: data.receipts + 1 }) },
    'trip.Refused': { outcome: 'refused', reason: ({ why }) => why },
  },
});

const undoIt = (step: TripStep): SagaCommand<TripData, TripPayloads> => ({
  aggregateType: `${step}-command`,
  type: 'trip.Undo',
  payload: ({ amount }) => ({ amount }),
  replies: {
    'trip.Undone': { outcome: 'done' },
    'trip.Refused': { outcome: 'refused', reason: ({ why }) => why },
  },
});

/** The saga; `version` and `timeoutMs` for tests that need another. */
export function tripSaga({ version = 1, timeoutMs = 1, retry = RETRY } = {}) {
  return defineSaga<TripData, TripPayloads>({
    name: 'trip',
    version,
    steps: TRIP_STEPS.map((name, index) => ({
      name,
      command: index === 0 ? null : doIt(name),
      compensation: index < PIVOT ? undoIt(name) : null,
      timeoutMs,
      retry,
      pivot: index === PIVOT,
    })),
  });
}

export interface ModelCommand extends SagaCorrelation {
  readonly type: string;
  readonly amount: number;
}

export interface ModelReply {
  readonly type: keyof TripPayloads;
  readonly value: unknown;
}

/** What a participant makes of a command that it gets for the first time; `crash`: it answers nothing, this time. */
export type Mood = 'agree' | 'refuse' | 'crash';

interface Deed {
  /** The answer to `do`, repeated for ever; null while none has come. */
  first: ModelReply | null;
  /** What stands on the account now. */
  held: number;
  cancelled: boolean;
}

/** All participants: idempotent by saga, step and purpose, with a tombstone for every undo. */
export class ModelParticipants {
  readonly #deeds = new Map<string, Deed>();

  /** Whether the participant of a step holds something for the saga. */
  holds(sagaId: string, step: TripStep): boolean {
    return step === 'order' ? this.#deed(sagaId, step).cancelled === false : this.#deed(sagaId, step).held !== 0;
  }

  /** A copy of everything, for a transaction that may be rolled back. */
  snapshot(): () => void {
    const kept = [...this.#deeds].map(([key, deed]) => [key, { ...deed }] as const);
    return () => {
      this.#deeds.clear();
      for (const [key, deed] of kept) this.#deeds.set(key, deed);
    };
  }

  /** Null: no answer. A refusal is remembered up to the pivot; after it, it is thought over. An undo can always be asked again. */
  handle({ sagaId, step, purpose, amount }: ModelCommand, mood: Mood): ModelReply | null {
    if (mood === 'crash') return null;
    const deed = this.#deed(sagaId, step);
    if (purpose === 'undo') {
      if (mood === 'refuse' && !deed.cancelled) return { type: 'trip.Refused', value: { why: 'not now' } };
      deed.cancelled = true;
      deed.held = 0;
      return { type: 'trip.Undone', value: { amount } };
    }
    if (deed.cancelled) return { type: 'trip.Refused', value: { why: 'cancelled' } };
    if (deed.first !== null) return deed.first;
    const afterPivot = TRIP_STEPS.indexOf(step as TripStep) > PIVOT;
    const reply: ModelReply =
      mood === 'agree' ? { type: 'trip.Done', value: { amount } } : { type: 'trip.Refused', value: { why: 'no' } };
    if (mood === 'agree') deed.held = amount;
    if (mood === 'agree' || !afterPivot) deed.first = reply;
    return reply;
  }

  /** What an operator sees to before he skips an undo. */
  undoByHand(sagaId: string, step: TripStep): void {
    Object.assign(this.#deed(sagaId, step), { cancelled: true, held: 0 });
  }

  #deed(sagaId: string, step: string): Deed {
    const key = `${sagaId} ${step}`;
    const known = this.#deeds.get(key) ?? { first: null, held: 0, cancelled: false };
    this.#deeds.set(key, known);
    return known;
  }
}
