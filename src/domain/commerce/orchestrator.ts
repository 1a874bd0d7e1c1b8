/** Leads the fulfilments: takes what starts and answers them from Kafka, and runs their timers. Any number of processes may do it at once. */
import type { OrderPlaced } from '../../events/generated/payloads.ts';
import type { ConsumedEvent } from '../../inbox/consumed-event.ts';
import { EventConsumer, type EventConsumerOptions } from '../../inbox/event-consumer.ts';
import type { AnyHandler, HandleBatch } from '../../inbox/handler.ts';
import { backoffMs, sleep } from '../../kernel/deadline.ts';
import { ferryErrorOf } from '../../postgres/sqlstate.ts';
import { SagaEngine } from '../../saga/engine.ts';
import { SagaTimers } from '../../saga/timers.ts';
import { FLOW_SETTINGS } from '../participant.ts';
import { fulfilment, fulfilmentOf } from './fulfilment.ts';

export class Orchestrator {
  readonly #options: Omit<EventConsumerOptions, 'handlers'>;
  readonly #engine: SagaEngine;
  readonly #consumer: EventConsumer;
  readonly #timers: SagaTimers;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: Omit<EventConsumerOptions, 'handlers'>) {
    this.#options = options;
    this.#engine = new SagaEngine({ ...options, sagas: [fulfilment] });
    this.#timers = new SagaTimers({ ...options, engine: this.#engine });
    this.#consumer = new EventConsumer({
      ...options,
      handlers: handlersOf(this.#engine),
      settings: { ...options.settings, ...FLOW_SETTINGS },
    });
  }

  /** Begins when the database knows the definitions. Rejects with SAGA_DEFINITION_…: nothing was begun then. */
  start(): Promise<void> {
    this.#running ??= this.#run();
    return this.#running;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running?.catch(() => {});
    await Promise.all([this.#consumer.stop(), this.#timers.stop()]);
  }

  async #run(): Promise<void> {
    const { pool, logger, backoffMaxMs } = this.#options;
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt++) {
      try {
        await this.#engine.register(pool);
        break;
      } catch (error) {
        if (ferryErrorOf(error)?.retryable !== true) throw error;
        logger.warn({ err: error, attempt }, 'sagas wait: the database cannot be reached');
        await sleep(backoffMs(attempt, 100, backoffMaxMs), this.#stopping.signal);
      }
    }
    if (this.#stopping.signal.aborted) return;
    this.#consumer.start();
    this.#timers.start();
  }
}

/** One handler for all types, so that a batch of them is one run, whatever its mixture. */
function handlersOf(engine: SagaEngine): Map<string, AnyHandler> {
  const handleBatch: HandleBatch = async (events, tx) => {
    const starts = events.filter(isPlaced).map(({ value, traceparent }) => {
      return { key: value.orderId, data: fulfilmentOf(value), traceparent };
    });
    if (starts.length > 0) await engine.startMany(tx, fulfilment, starts);
    await engine.handleReplies(
      tx,
      events.filter(({ type }) => type !== ORDER_PLACED),
    );
  };
  const handler: AnyHandler = { handleBatch };
  return new Map([ORDER_PLACED, ...engine.replyTypes].map((type) => [type, handler]));
}

const ORDER_PLACED = 'commerce.OrderPlaced';

function isPlaced(event: ConsumedEvent): event is ConsumedEvent<OrderPlaced> {
  return event.type === ORDER_PLACED && event.value !== null;
}
