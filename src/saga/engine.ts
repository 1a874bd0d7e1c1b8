/**
 * The orchestrator: starts sagas, takes replies, runs timers, obeys operators. Each call decides by decide.ts and writes everything in one
 * transaction: the instance, its steps, its history, its timer, and the next commands into the outbox. Nothing is kept in memory.
 */
import { correlationOf, type SagaCorrelation } from '../events/saga-headers.ts';
import { coerceError, FerryError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import { newEventId } from '../outbox/emit.ts';
import { emitMany } from '../outbox/emit-many.ts';
import type { Pool, Queryable } from '../postgres/connection.ts';
import { ferryErrorOf, sqlStateOf } from '../postgres/sqlstate.ts';
import { transaction } from '../postgres/transaction.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { decide } from './decide.ts';
import { replyTypes, type Saga, type SagaData } from './definition.ts';
import type { Decision, OperatorAction, SagaInput, SagaInstance } from './instance.ts';
import { registerSagas, SagaCatalog } from './registration.ts';
import { isEnded } from './states.ts';
import {
  type DueSelection,
  insertSagas,
  type LockedSaga,
  lockDueSagas,
  lockSagas,
  type SagaChange,
  sagaIdsByKey,
  setAside,
  updateSagas,
  writeSteps,
} from './store.ts';

export interface SagaEngineParts {
  /** Every definition of which instances may be under way: all versions of them. */
  readonly sagas: ReadonlyArray<Saga>;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'sagasTotal' | 'sagaDurationSeconds' | 'sagaRepliesTotal' | 'sagaTimersTotal'>;
}

export interface SagaStart<Data> {
  /** What it is about: one saga of its name is ever started for it. At most 512 bytes; the aggregate id of its commands. */
  readonly key: string;
  /** Plain JSON. */
  readonly data: Data;
  /** The commands continue this trace. */
  readonly traceparent?: string | null;
}

export interface StartedSaga {
  readonly id: string;
  readonly key: string;
  /** False: the key's saga had been started before, and nothing was written. */
  readonly started: boolean;
}

/** An event that may be a reply; a consumed event is one as it is. */
export interface SagaReply {
  readonly id: EventId;
  readonly type: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly value: unknown;
}

export interface SagaOperation {
  readonly sagaId: string;
  readonly action: OperatorAction;
  /** Who: the principal of the audit row. */
  readonly actor: string;
  readonly reason: string;
}

export interface TimerRun {
  /** Timers that were due and ran. */
  readonly fired: number;
  /** Instances whose timers fail, each by itself; they are tried again later. */
  readonly setAside: number;
}

export class SagaEngine {
  readonly #catalog: SagaCatalog;
  readonly #logger: Logger;
  readonly #metrics: SagaEngineParts['metrics'];

  /** Throws a TypeError if a saga's version is given twice. */
  constructor({ sagas, logger, metrics }: SagaEngineParts) {
    this.#catalog = new SagaCatalog(sagas);
    this.#logger = logger;
    this.#metrics = metrics;
  }

  /** The event types that may be replies: a consumer hands all of them to `handleReplies`. */
  get replyTypes(): string[] {
    return replyTypes(this.#catalog.all);
  }

  /** To be called before anything else. Rejects with SAGA_DEFINITION_CHANGED or SAGA_DEFINITION_MISSING. */
  async register(pool: Pool): Promise<void> {
    await transaction(pool, (tx) => registerSagas(tx, this.#catalog));
  }

  /** Starts a saga in the caller's transaction, unless its key's was started before. Rejects with what its first payload throws. */
  async start<Data extends object>(tx: Queryable, saga: Saga<Data>, start: SagaStart<Data>): Promise<StartedSaga> {
    const [started] = await this.startMany(tx, saga, [start]);
    if (started === undefined) throw new Error('a start gave no saga');
    return started;
  }

  /** As `start`, for a batch, in the order given; of several with one key the first counts. */
  async startMany<Data extends object>(
    tx: Queryable,
    saga: Saga<Data>,
    starts: ReadonlyArray<SagaStart<Data>>,
  ): Promise<StartedSaga[]> {
    const definition = this.#catalog.get(saga);
    const byKey = new Map<string, SagaChange>();
    for (const start of starts) {
      if (byKey.has(start.key)) continue;
      const decision = this.#decide(definition, newInstance(definition, start), { kind: 'start' });
      if (decision !== null) byKey.set(start.key, { before: null, ...decision });
    }
    const changes = [...byKey.values()];
    const inserted = changes.length === 0 ? new Set<string>() : await insertSagas(tx, changes);
    const fresh = changes.filter(({ instance }) => inserted.has(instance.id));
    await this.#writeEffects(tx, fresh);
    const known =
      fresh.length === changes.length
        ? new Map<string, string>()
        : await sagaIdsByKey(tx, saga.name, [...byKey.keys()]);
    const reported = new Set<string>();
    return starts.map(({ key }) => {
      const own = byKey.get(key)?.instance.id ?? '';
      const started = inserted.has(own) && !reported.has(key);
      reported.add(key);
      return { key, id: inserted.has(own) ? own : (known.get(key) ?? ''), started };
    });
  }

  /** As `handleReplies`, for one. */
  async handleReply(tx: Queryable, reply: SagaReply): Promise<void> {
    await this.handleReplies(tx, [reply]);
  }

  /**
   * Takes replies in the caller's transaction, which is also that of their inbox rows. Events that are no replies to these sagas are passed
   * over. Rejects with what a definition's functions throw, or SAGA_DEFINITION_MISSING.
   */
  async handleReplies(tx: Queryable, replies: ReadonlyArray<SagaReply>): Promise<void> {
    const inputs = replies.flatMap((reply) => {
      const correlation = reply.value === null ? null : correlationOf(reply.headers);
      return correlation === null ? [] : [{ sagaId: correlation.sagaId, input: replyInput(reply, correlation) }];
    });
    this.#metrics.sagaRepliesTotal.add(replies.length - inputs.length, { result: 'ignored' });
    if (inputs.length === 0) return;
    const locked = await lockSagas(tx, [...new Set(inputs.map(({ sagaId }) => sagaId))]);
    const changes = new Map<string, SagaChange>();
    for (const { sagaId, input } of inputs) {
      const decision = this.#decideReply(changes.get(sagaId)?.instance ?? locked.get(sagaId)?.instance, input);
      this.#countReply(decision);
      const before = locked.get(sagaId)?.instance;
      if (decision !== null && before !== undefined) {
        changes.set(sagaId, together(changes.get(sagaId), { before, ...decision }));
      }
    }
    await this.#write(tx, [...changes.values()], locked);
  }

  /**
   * Runs timers that are due, `limit` at most, in one transaction; if that fails, each in its own, so that an instance that cannot go on
   * is set aside alone. Any number of orchestrators may do so at once. Rejects while Postgres is away.
   */
  async runDueTimers(pool: Pool, limit: number): Promise<TimerRun> {
    const due: { ids: string[] } = { ids: [] };
    try {
      const fired = await transaction(pool, (tx) => this.#fire(tx, { limit, ids: null }, (ids) => (due.ids = ids)));
      this.#metrics.sagaTimersTotal.add(fired, { result: 'fired' });
      return { fired, setAside: 0 };
    } catch (error) {
      if (due.ids.length === 0 || mayPass(error)) throw error;
    }
    const run = { fired: 0, setAside: 0 };
    for (const id of due.ids) {
      const fired = await this.#fireAlone(pool, id);
      if (fired === null) run.setAside++;
      else run.fired += fired;
    }
    this.#metrics.sagaTimersTotal.add(run.fired, { result: 'fired' });
    this.#metrics.sagaTimersTotal.add(run.setAside, { result: 'set-aside' });
    return run;
  }

  /**
   * Does what an operator wants of an instance, in the caller's transaction, where the audit row belongs too. Resolves to the instance
   * afterwards. Rejects with NOT_FOUND, or CONFLICT if its state does not allow it.
   */
  async operate(tx: Queryable, { sagaId, ...operation }: SagaOperation): Promise<SagaInstance> {
    const locked = await lockSagas(tx, [sagaId]);
    const before = locked.get(sagaId)?.instance;
    if (before === undefined) throw new FerryError('NOT_FOUND', `there is no saga ${sagaId}`);
    const decision = this.#decide(this.#catalog.get(before), before, { kind: 'operator', ...operation });
    if (decision === null) return before;
    await this.#write(tx, [{ before, ...decision }], locked);
    return decision.instance;
  }

  /** The number of instances whose timers ran; null if this one was set aside. */
  async #fireAlone(pool: Pool, id: string): Promise<number | null> {
    try {
      return await transaction(pool, (tx) => this.#fire(tx, { limit: 1, ids: [id] }));
    } catch (error) {
      if (mayPass(error)) throw error;
      const aside = await transaction(pool, (tx) => setAside(tx, id, reasonOf(error)));
      this.#logger.error({ sagaId: id, err: error }, 'the timer of a saga fails: it is set aside');
      return aside ? null : 0;
    }
  }

  async #fire(
    tx: Queryable,
    selection: Omit<DueSelection, 'definitions'>,
    onLocked: (ids: string[]) => void = () => {},
  ): Promise<number> {
    const locked = await lockDueSagas(tx, { ...selection, definitions: this.#catalog.all });
    onLocked([...locked.keys()]);
    const changes = [...locked.values()].flatMap(({ instance: before, lateMs }): SagaChange[] => {
      const decision = this.#decide(this.#catalog.get(before), before, { kind: 'timer', lateMs });
      return decision === null ? [] : [{ before, ...decision }];
    });
    await this.#write(tx, changes, locked);
    return changes.length;
  }

  #decide(saga: Saga, instance: SagaInstance, input: SagaInput): Decision | null {
    return decide(saga, instance, input, newEventId);
  }

  /** Null for a reply to a saga that is not here, or that has ended and whose definition is gone. */
  #decideReply(instance: SagaInstance | undefined, input: SagaInput): Decision | null {
    if (instance === undefined) return null;
    const saga = this.#catalog.find(instance);
    if (saga === undefined && isEnded(instance.state)) return null;
    return this.#decide(saga ?? this.#catalog.get(instance), instance, input);
  }

  async #write(tx: Queryable, changes: readonly SagaChange[], locked: ReadonlyMap<string, LockedSaga>): Promise<void> {
    if (changes.length === 0) return;
    await updateSagas(tx, changes);
    await this.#writeEffects(tx, changes);
    for (const { instance, before } of changes) {
      const { state, name } = instance;
      const ageSeconds = locked.get(instance.id)?.ageSeconds;
      if (state === before?.state || ageSeconds === undefined) continue;
      if (state === 'completed' || state === 'compensated') {
        this.#metrics.sagaDurationSeconds.record(ageSeconds, { saga: name, outcome: state });
      }
    }
  }

  /** Counted when written: a transaction that is rolled back afterwards counts twice. */
  async #writeEffects(tx: Queryable, changes: readonly SagaChange[]): Promise<void> {
    await writeSteps(tx, changes);
    await emitMany(
      tx,
      changes.flatMap(({ commands }) => commands),
    );
    for (const { instance, before } of changes) {
      if (instance.state !== before?.state) {
        this.#metrics.sagasTotal.add(1, { saga: instance.name, state: instance.state });
      }
    }
  }

  #countReply(decision: Decision | null): void {
    const late = decision?.history.some(({ cause }) => cause === 'late-reply') === true;
    this.#metrics.sagaRepliesTotal.add(1, { result: decision === null ? 'ignored' : late ? 'late' : 'applied' });
  }
}

function newInstance({ name, version }: Saga, { key, data, traceparent }: SagaStart<object>): SagaInstance {
  return {
    id: newEventId(),
    name,
    version,
    key,
    state: 'running',
    data: data as SagaData,
    step: null,
    tries: 0,
    cancelling: false,
    problem: null,
    traceparent: traceparent ?? null,
    steps: new Map(),
  };
}

function replyInput({ id, type, value }: SagaReply, { step, purpose, attempt }: SagaCorrelation): SagaInput {
  return { kind: 'reply', eventId: id, type, value, step, purpose, attempt };
}

/** One change after the other, as one. */
function together(first: SagaChange | undefined, second: SagaChange): SagaChange {
  if (first === undefined) return second;
  return {
    before: first.before,
    instance: second.instance,
    commands: [...first.commands, ...second.commands],
    history: [...first.history, ...second.history],
    timer: second.timer === 'unchanged' ? first.timer : second.timer,
  };
}

/** Whether it concerns Postgres as a whole and not one instance. */
function mayPass(error: unknown): boolean {
  return ferryErrorOf(error)?.retryable === true;
}

/** Never the text of a foreign error: it may quote an event's values. */
function reasonOf(error: unknown): string {
  const known = ferryErrorOf(error);
  if (known !== undefined) return `${known.code}: ${known.message}`;
  const state = sqlStateOf(error);
  return state === undefined ? coerceError(error).name : `SQLSTATE ${state}`;
}
