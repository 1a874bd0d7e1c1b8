/** Events that fail by themselves within a batch: those of other keys are committed without them, those behind them of their own key are not. */
import type { ConsumedEvent } from './consumed-event.ts';
import { classify, type Failure } from './failure.ts';
import { keyId } from './key-scheduler.ts';

interface Keyed {
  readonly event: ConsumedEvent;
  /** Null: it stands alone. */
  readonly key: Buffer | null;
}

/** An event that its batch went on without. Failure null: it stands behind another one of its key that was put back. */
export interface PutBack<D> {
  readonly delivery: D;
  readonly failure: Failure | null;
}

export class PutBackEvents<D extends Keyed> {
  readonly #errors = new Map<D, unknown>();
  readonly #keys = new Set<string>();

  /** `event` is one of the run's. The first error of an event counts. */
  add(run: readonly D[], event: ConsumedEvent, error: unknown): void {
    const delivery = run.find((one) => one.event.id === event.id);
    if (delivery === undefined) throw new Error(`event ${event.id} is not of the batch that puts it back`);
    if (this.#errors.has(delivery)) return;
    this.#errors.set(delivery, error);
    const id = keyOf(delivery);
    if (id !== null) this.#keys.add(id);
  }

  /** An event that was alone has not failed within a batch: it has failed. */
  throwIfAlone(run: readonly D[]): void {
    const [only, ...others] = run;
    if (only !== undefined && others.length === 0 && this.#errors.has(only)) throw this.#errors.get(only);
  }

  /** Those that do not stand behind an event of their key that was put back. */
  withoutOvertaking(run: readonly D[]): D[] {
    return run.filter((delivery) => !this.#keys.has(keyOf(delivery) ?? ''));
  }

  /** What of the deliveries, which are in their order, is to come again: also what stands behind the first of its key. */
  of(deliveries: readonly D[]): Array<PutBack<D>> {
    const begun = new Set<string>();
    return deliveries.flatMap((delivery) => {
      const id = keyOf(delivery);
      const behind = id !== null && begun.has(id);
      if (!behind && !this.#errors.has(delivery)) return [];
      if (id !== null) begun.add(id);
      return [{ delivery, failure: behind ? null : classify(this.#errors.get(delivery), false) }];
    });
  }
}

function keyOf({ key, event: { source } }: Keyed): string | null {
  return key === null ? null : keyId({ topic: source.topic, key });
}
