/**
 * Keeps a relay running: session after session, waiting as a standby while another relay holds the slot, backing off while something is
 * unreachable, and stopping for good only when going on could lose or repeat events.
 */
import { SlotBusyError, SlotMissingError } from '../events/change-stream.ts';
import { backoffMs, sleep } from '../kernel/deadline.ts';
import { coerceError, describeError, ERRORS, FerryError } from '../kernel/errors.ts';
import { formatLsn } from '../kernel/lsn.ts';
import { SerialClient } from '../postgres/serial-client.ts';
import { readEpoch } from './ledger.ts';
import type { Publisher } from './publisher.ts';
import { type RelayOptions, RelaySession } from './session.ts';
import { readSlot } from './slot.ts';
import { SlotLostError } from './start-up.ts';
import { type RelayState, RelayStateMachine } from './states.ts';

export interface RelayStatus {
  readonly state: RelayState;
  readonly slot: string;
  /** What is waited for, or why it was refused; null while all is well. Stays while it streams, until something is committed again. */
  readonly problem: string | null;
  readonly checkpointLsn: string | null;
  readonly lastEventId: string | null;
}

const BACKOFF_BASE_MS = 100;

export class Relay {
  readonly #options: RelayOptions;
  readonly #states: RelayStateMachine;
  readonly #stopping = new AbortController();
  #session: RelaySession | null = null;
  #publisher: Publisher | null = null;
  #problem: string | null = null;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#states = new RelayStateMachine(options.logger, options.metrics);
  }

  /** Resolves after `stop`. Rejects with a RELAY_… error when an operator must decide; the state is then `refused`. */
  async run(): Promise<void> {
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt++) {
      this.#states.to('connecting');
      try {
        await this.#runSession(() => {
          attempt = 0; // not when it streams: what fails at every commit would be tried again without a pause that grows
        });
      } catch (thrown) {
        if (this.#stopping.signal.aborted) break;
        await this.#recover(coerceError(thrown), attempt);
      }
    }
    this.#states.to('stopped');
  }

  /** Finishes the Kafka transaction in flight, confirms it and releases the slot; `run` resolves then. */
  stop(): void {
    if (this.#states.state === 'streaming' || this.#states.state === 'backfilling') this.#states.to('draining');
    this.#stopping.abort();
    this.#session?.stop();
  }

  get status(): RelayStatus {
    const checkpoint = this.#publisher?.checkpoint;
    return {
      state: this.#states.state,
      slot: this.#options.slot,
      problem: this.#problem,
      checkpointLsn: checkpoint === undefined ? null : formatLsn(checkpoint.endLsn),
      lastEventId: checkpoint?.lastEventId ?? null,
    };
  }

  async #runSession(onCommitted: () => void): Promise<void> {
    const session = new RelaySession(this.#options, this.#states);
    this.#session = session;
    try {
      await session.run({
        onStreaming: (publisher) => {
          this.#publisher = publisher;
        },
        onCommitted: () => {
          this.#problem = null;
          onCommitted();
        },
      });
    } finally {
      this.#session = null;
    }
  }

  async #recover(error: Error, attempt: number): Promise<void> {
    const { logger, metrics, backoffMaxMs } = this.#options;
    if (error instanceof SlotBusyError || error instanceof SlotLostError) return this.#standBy(error);
    const cause = error instanceof SlotMissingError ? await this.#explainMissingSlot(error) : error;
    if (cause instanceof FerryError && cause.code.startsWith('RELAY_')) {
      this.#problem = `${cause.message}. ${ERRORS[cause.code].remedy}`;
      this.#states.to('refused');
      logger.error({ err: cause, remedy: cause.remedy }, 'the relay refuses to go on');
      throw cause;
    }
    const waitMs = backoffMs(attempt, BACKOFF_BASE_MS, backoffMaxMs);
    this.#problem = describeError(cause);
    metrics.errorsTotal.add(1, { code: cause instanceof FerryError ? cause.code : 'UNEXPECTED', stage: 'started' });
    this.#states.to('backing-off');
    logger.warn({ err: cause, attempt, waitMs: Math.round(waitMs) }, 'the relay lost a part and will try again');
    await sleep(waitMs, this.#stopping.signal);
  }

  /** Waits until the slot looks free. Looking costs one cheap query; trying would cost a replication connection each time. */
  async #standBy(reason: Error): Promise<void> {
    const { slot, standbyPollMs, logger } = this.#options;
    if (this.#states.state !== 'connecting') this.#states.to('backing-off');
    else this.#states.to('standby');
    this.#problem = reason.message;
    logger.info({ slot, reason: reason.message }, 'another relay holds the slot: standing by');
    try {
      await this.#withClient(async (client) => {
        while (await sleep(standbyPollMs, this.#stopping.signal)) {
          if ((await readSlot(client, slot))?.activePid == null) return;
        }
      });
    } catch (error) {
      logger.debug({ err: error }, 'the standby lost Postgres');
      this.#states.to('backing-off');
      await sleep(standbyPollMs, this.#stopping.signal);
    }
  }

  /** A slot that is gone means events that cannot be read from it any more: a refusal. */
  async #explainMissingSlot(error: SlotMissingError): Promise<Error> {
    const { name, slot } = this.#options;
    try {
      const epoch = await this.#withClient((client) => readEpoch(client, name));
      const message = `${error.message}; relay ${name} is in epoch ${epoch?.epoch ?? 0} with slot ${slot}`;
      return new FerryError('RELAY_SLOT_MISSING', message, { cause: error });
    } catch {
      return error;
    }
  }

  async #withClient<T>(work: (client: SerialClient) => Promise<T>): Promise<T> {
    const { settings, name } = this.#options;
    const client = await SerialClient.connect(settings, `ferry relay ${name}`, () => {}); // a break shows in the next query
    try {
      return await work(client);
    } finally {
      await client.end().catch(() => {});
    }
  }
}
