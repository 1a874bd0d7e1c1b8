/**
 * Applies events: one Postgres transaction in which they are entered into the inbox and given their effect by the handlers, or nothing at
 * all. Knows nothing of Kafka and of retries; its answer says what became of the events.
 */
import { type Span, SpanKind, SpanStatusCode, type Tracer } from '@opentelemetry/api';
import { onAbort, orAborted } from '../kernel/deadline.ts';
import { coerceError } from '../kernel/errors.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import { ClosableTransaction } from '../postgres/closable-transaction.ts';
import type { Pool, Queryable } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import { contextFromTraceparent, traceparentOf } from '../telemetry/traces.ts';
import type { ConsumedEvent } from './consumed-event.ts';
import { classify, type Failure, HandlerTimeoutError } from './failure.ts';
import type { AnyHandler, HandlerContext } from './handler.ts';
import { idempotencyKey } from './idempotency-key.ts';
import { claim, type ParkedKey, parkedAmong, type TopicKey, unclaim } from './inbox-store.ts';
import { type PutBack, PutBackEvents } from './put-back.ts';

/** An event with the handler of its type, and the key in whose order it stands (null: none). */
export interface Delivery {
  readonly event: ConsumedEvent;
  readonly handler: AnyHandler;
  readonly key: Buffer | null;
}

/** How many events were applied now; nothing was done of those put back. */
export interface Applied<D extends Delivery> {
  readonly kind: 'applied';
  readonly applied: number;
  readonly putBack: ReadonlyArray<PutBack<D>>;
}

export type Outcome<D extends Delivery> =
  | Applied<D>
  /** Nothing was done: some keys are parked, which this member did not know. */
  | { readonly kind: 'parked'; readonly keys: readonly ParkedKey[] }
  /** Nothing was done: one of the suspects' handlers failed; the others only shared their transaction. */
  | { readonly kind: 'failed'; readonly failure: Failure; readonly suspects: readonly D[] }
  /**
   * Nothing was done, or (a commit whose answer was lost) all: the inbox will tell. No event is at fault, unless Postgres is lost each time
   * that the handler of these suspects runs.
   */
  | { readonly kind: 'away'; readonly failure: Failure; readonly suspects: readonly D[] };

/** Takes an event in the transaction of its effect; false: somebody has dealt with it, and there is nothing to do. */
export type Claim = (tx: Queryable) => Promise<boolean>;

export interface ApplierOptions {
  readonly pool: Pool;
  readonly group: string;
  readonly tracer: Tracer;
  /** Longest time for one call of a handler. */
  readonly handlerTimeoutMs: number;
  /** Ends what is being done when it fires; nothing of it is done then. */
  readonly giveUp: AbortSignal;
  readonly failPoint: FailPoint;
}

/** What was being done when something was thrown. */
interface Progress<D extends Delivery> {
  /** Events whose handler is running; all of them once it is the commit that runs, null while the inbox is asked. */
  suspects: readonly D[] | null;
  tx: ClosableTransaction | null;
  /** What the handlers so far have put back. */
  putBack: PutBackEvents<D>;
}

export class Applier {
  readonly #options: ApplierOptions;

  constructor(options: ApplierOptions) {
    this.#options = options;
  }

  /**
   * Applies those of the events that the inbox does not have. Events of one key come in their order. `over` ends it as the consumer's own
   * signal does. Never rejects.
   */
  apply<D extends Delivery>(deliveries: readonly D[], attempt: number, over?: AbortSignal): Promise<Outcome<D>> {
    const { group } = this.#options;
    return this.#attempt(async (tx, progress, signal) => {
      const claimed = await claim(
        tx,
        group,
        deliveries.map(({ event }) => event),
        'applied',
      );
      const fresh = deliveries.filter(({ event }) => claimed.delete(event.id)); // the first of an id that came twice
      const parked = fresh.length === 0 ? [] : await parkedAmong(tx, group, keysOf(fresh));
      if (parked.length > 0) throw new KeysParked(parked);
      for (const run of runsOf(fresh)) {
        const rest = progress.putBack.withoutOvertaking(run);
        if (rest.length > 0) await this.#handle(rest, tx, progress, { attempt, signal });
      }
      const putBack = progress.putBack.of(fresh);
      if (putBack.length > 0)
        await unclaim(
          tx,
          group,
          putBack.map(({ delivery }) => delivery.event),
        );
      progress.suspects = deliveries;
      return { applied: fresh.length - putBack.length, putBack };
    }, over);
  }

  /** Applies an event that was set aside, if `claimIt` gets it in the inbox. Never rejects. */
  applySetAside<D extends Delivery>(delivery: D, attempt: number, claimIt: Claim): Promise<Outcome<D>> {
    return this.#attempt(async (tx, progress, signal) => {
      if (!(await claimIt(tx))) return { applied: 0, putBack: [] };
      await this.#handle([delivery], tx, progress, { attempt, signal });
      progress.suspects = [delivery];
      return { applied: 1, putBack: [] };
    });
  }

  async #attempt<D extends Delivery>(
    work: (tx: Queryable, progress: Progress<D>, abort: AbortController) => Promise<Omit<Applied<D>, 'kind'>>,
    over?: AbortSignal,
  ): Promise<Outcome<D>> {
    const { pool } = this.#options;
    const giveUp = over === undefined ? this.#options.giveUp : AbortSignal.any([this.#options.giveUp, over]);
    const progress: Progress<D> = { suspects: null, tx: null, putBack: new PutBackEvents() };
    const abort = new AbortController();
    const forget = onAbort(giveUp, () => abort.abort(giveUp.reason));
    try {
      const once = (tx: Queryable) => {
        progress.suspects = null; // the whole transaction may run again, after a deadlock
        progress.putBack = new PutBackEvents();
        return work(tx, progress, abort);
      };
      const applied = await transaction(pool, once, { signal: abort.signal });
      this.#options.failPoint('after-commit-before-offset');
      return { kind: 'applied', ...applied };
    } catch (thrown) {
      if (thrown instanceof KeysParked) return { kind: 'parked', keys: thrown.keys };
      const committing = progress.tx === null;
      const viaTransaction = committing || progress.tx?.threw(thrown) === true;
      const failure = classify(thrown, viaTransaction);
      const suspects = giveUp.aborted ? null : progress.suspects;
      if (suspects === null) return { kind: 'away', failure, suspects: [] };
      if (failure.kind === 'away') return { kind: 'away', failure, suspects: committing ? [] : suspects };
      return { kind: 'failed', failure, suspects };
    } finally {
      forget();
    }
  }

  /** Calls the handler of a run: an event, or neighbours that share a batch handler. */
  async #handle<D extends Delivery>(
    run: readonly D[],
    tx: Queryable,
    progress: Progress<D>,
    { attempt, signal: abort }: { attempt: number; signal: AbortController },
  ): Promise<void> {
    const handlerTx = new ClosableTransaction(tx);
    const { putBack } = progress;
    progress.suspects = run;
    progress.tx = handlerTx;
    const { group, handlerTimeoutMs, failPoint } = this.#options;
    const spans = run.map(({ event }) => this.#startSpan(event));
    const timer = setTimeout(() => abort.abort(new HandlerTimeoutError(handlerTimeoutMs)), handlerTimeoutMs);
    try {
      failPoint('before-handler');
      const called = callHandler(run, handlerTx, {
        group,
        attempt,
        signal: abort.signal,
        traceparent: run.length === 1 && spans[0] !== undefined ? traceparentOf(spans[0]) : null,
        idempotencyKey: (event, operation) => idempotencyKey(group, event.id, operation),
        putBack: (event, error) => putBack.add(run, event, error),
      });
      await orAborted(called, abort.signal); // a handler that ends after all must not be followed by the next one
      putBack.throwIfAlone(run);
      await requireUsable(tx, handlerTx);
      failPoint('after-handler');
    } catch (error) {
      for (const span of spans) span.setStatus({ code: SpanStatusCode.ERROR, message: coerceError(error).name });
      throw error;
    } finally {
      clearTimeout(timer);
      handlerTx.close();
      for (const span of spans) span.end();
    }
    progress.tx = null;
  }

  /** One span an event, the last of the trace that began with its write; each lasts as its batch does. No key and no value stands in it. */
  #startSpan(event: ConsumedEvent): Span {
    const attributes = {
      'messaging.system': 'kafka',
      'messaging.operation.type': 'process',
      'messaging.destination.name': event.source.topic,
      'messaging.destination.partition.id': String(event.source.partition),
      'messaging.kafka.offset': Number(event.source.offset),
      'messaging.consumer.group.name': this.#options.group,
      'ferry.event.id': event.id,
      'ferry.event.type': event.type,
    };
    return this.#options.tracer.startSpan(
      'ferry.consume',
      { kind: SpanKind.CONSUMER, attributes },
      contextFromTraceparent(event.traceparent),
    );
  }
}

/** A member that lost the partition meanwhile has parked the key of an event that is next here. */
class KeysParked extends Error {
  readonly keys: readonly ParkedKey[];
  constructor(keys: readonly ParkedKey[]) {
    super('keys are parked');
    this.keys = keys;
  }
}

/** Neighbours whose batch handler is the same object; everything else by itself. */
function runsOf<D extends Delivery>(deliveries: readonly D[]): D[][] {
  const runs: D[][] = [];
  for (const delivery of deliveries) {
    const last = runs.at(-1);
    const batches = typeof delivery.handler === 'object' && 'handleBatch' in delivery.handler;
    if (batches && last?.[0]?.handler === delivery.handler) last.push(delivery);
    else runs.push([delivery]);
  }
  return runs;
}

/** The handler's type of value is the concern of whoever registered it for this event type (AnyHandler). */
async function callHandler(run: readonly Delivery[], tx: Queryable, context: HandlerContext): Promise<void> {
  const first = run[0];
  if (first === undefined) return;
  const { handler } = first;
  const events = run.map(({ event }) => event as ConsumedEvent<never>);
  if (typeof handler === 'object' && 'handleBatch' in handler) return handler.handleBatch(events, tx, context);
  const handle = typeof handler === 'function' ? handler : handler.handle;
  for (const event of events) await handle(event, tx, context);
}

/**
 * A handler that goes on after a statement that failed must have gone back to a savepoint: otherwise Postgres refuses all that follows, which
 * would be blamed on the next handler.
 */
async function requireUsable(tx: Queryable, { firstFailure }: ClosableTransaction): Promise<void> {
  if (firstFailure === null) return;
  try {
    await tx.query('select 1');
  } catch {
    throw firstFailure;
  }
}

function keysOf(deliveries: readonly Delivery[]): TopicKey[] {
  const keys = new Map<string, TopicKey>();
  for (const { key, event } of deliveries) {
    const { topic } = event.source;
    if (key !== null) keys.set(`${topic} ${key.toString('latin1')}`, { topic, key });
  }
  return [...keys.values()];
}
