/**
 * Many sagas at once on the real Postgres, the outbox their bus: commands and replies are refused, lost, repeated and reordered, transactions
 * break off after any statement, orchestrators forget everything, operators interfere. In the end each saga is done or undone, and nothing is
 * left over.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { correlationHeaders, correlationOf } from '../../src/events/saga-headers.ts';
import { FerryError } from '../../src/kernel/errors.ts';
import type { EventId } from '../../src/kernel/event-id.ts';
import { newEventId } from '../../src/outbox/emit.ts';
import { createPool, type Pool, type Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { SagaEngine, type SagaReply } from '../../src/saga/engine.ts';
import type { OperatorAction } from '../../src/saga/instance.ts';
import type { InstanceState, StepState } from '../../src/saga/states.ts';
import { createRandom } from '../support/random.ts';
import { quiet } from '../support/relay-fixtures.ts';
import {
  type ModelCommand,
  ModelParticipants,
  type Mood,
  TRIP_STEPS,
  type TripStep,
  tripSaga,
} from '../support/saga-model.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const SAGAS = 60;
const WORKERS = 6;
const TURNS = 250;

const stack = await testStack();
const pool = createPool(stack.config, 'ferry-test', { max: WORKERS + 2 });
after(() => pool.end());

/** Short enough that time-outs are met, long enough that most answers come in time. */
const TRIP = tripSaga({ timeoutMs: 400, retry: { maxTries: 3, baseMs: 50, maxMs: 200 } });
const seed = Math.floor(Math.random() * 2 ** 31);
const random = createRandom(seed);
const participants = new ModelParticipants();

/** An orchestrator remembers nothing, so each piece of work is done by another one. */
const engine = () => new SagaEngine({ ...quiet, sagas: [TRIP] });

/** How the driver tells that the connection is gone; Postgres has rolled back then. */
const lostConnection = () => Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });

/** Transactions of this pool break off at one of their first statements, COMMIT included, so that nothing of them stays. */
function breakingPool(): Pool {
  let left = random.between(1, 8);
  const connect = async () => {
    const client = await pool.connect();
    const query = (text: string, values?: unknown[]) => {
      left -= 1;
      return left === 0 && text !== 'rollback' ? Promise.reject(lostConnection()) : client.query(text, values);
    };
    return { query, release: (error?: Error) => client.release(error) };
  };
  return { connect } as unknown as Pool;
}

const anyPool = () => (random.chance(0.3) ? breakingPool() : pool);

class Bus {
  readonly #seen = new Set<EventId>();
  #commands: ModelCommand[] = [];
  #replies: SagaReply[] = [];

  get isEmpty(): boolean {
    return this.#commands.length + this.#replies.length === 0;
  }

  /** Fetches what was committed to the outbox since. By id: rows become visible in the order of their commits, not of their numbers. */
  async fetch(): Promise<void> {
    const { rows } = await pool.query<{ id: EventId; type: string; amount: number; headers: Record<string, string> }>(
      `select id, type, (payload ->> 'amount')::int as amount, headers from ferry.outbox where id <> all ($1::uuid[]) order by seq`,
      [[...this.#seen]],
    );
    for (const { id, headers, type, amount } of rows) {
      const correlation = correlationOf(headers);
      if (correlation === null || this.#seen.has(id)) continue; // another worker fetched it meanwhile
      this.#seen.add(id);
      this.#commands.push({ ...correlation, type, amount });
    }
  }

  /** One participant gets one command, any of those on their way, perhaps not for the last time. */
  command(mood: Mood, isRepeated: boolean): void {
    if (this.#commands.length === 0) return;
    const command = random.pick(this.#commands);
    const answer = participants.handle(command, mood);
    if (answer === null) return;
    if (!isRepeated) this.#commands = this.#commands.filter((other) => other !== command);
    this.#replies.push({ id: newEventId(), ...answer, headers: correlationHeaders(command) });
  }

  /** Takes up to five replies off the bus in one transaction; if that fails they stay. */
  async replies(from: Pool, isRepeated: boolean): Promise<void> {
    if (this.#replies.length === 0) return;
    const batch = Array.from({ length: random.between(1, 5) }, () => random.pick(this.#replies));
    await transaction(from, (tx: Queryable) => engine().handleReplies(tx, batch));
    if (!isRepeated) this.#replies = this.#replies.filter((reply) => !batch.includes(reply));
  }

  loseOne(): void {
    const lost = this.isEmpty ? null : random.pick([...this.#commands, ...this.#replies]);
    this.#commands = this.#commands.filter((command) => command !== lost);
    this.#replies = this.#replies.filter((reply) => reply !== lost);
  }
}

const bus = new Bus();
const ids: string[] = [];

async function operate(from: Pool, sagaId: string, action: OperatorAction): Promise<void> {
  try {
    await transaction(from, (tx) => engine().operate(tx, { sagaId, action, actor: 'ada', reason: 'a storm' }));
  } catch (error) {
    if (!(error instanceof FerryError) || error.code !== 'CONFLICT') throw error;
  }
}

/** Skips a step before the pivot; an undo is seen to by hand first, as an operator should. */
async function skip(from: Pool, sagaId: string): Promise<void> {
  await transaction(from, async (tx) => {
    const { rows } = await tx.query<{ step: TripStep; state: StepState }>(
      `select step, saga_step.state from ferry.saga join ferry.saga_step using (step)
       where id = $1 and saga_id = $1 for update of saga`,
      [sagaId],
    );
    const [at] = rows;
    if (at === undefined || TRIP_STEPS.indexOf(at.step) >= TRIP_STEPS.indexOf('handover')) return;
    if (at.state === 'undoing' || at.state === 'undo_failed') participants.undoByHand(sagaId, at.step);
    await engine().operate(tx, { sagaId, action: 'skip', actor: 'ada', reason: 'a storm' });
  });
}

const met = { broken: 0, operated: 0 };

async function anything(): Promise<void> {
  const mood = random.weighted([
    { mood: 'agree' as const, weight: 92 },
    { mood: 'refuse' as const, weight: 3 },
    { mood: 'crash' as const, weight: 5 },
  ]).mood;
  const { act } = random.weighted([
    { weight: 30, act: async () => bus.command(mood, random.chance(0.1)) },
    { weight: 30, act: () => bus.replies(anyPool(), random.chance(0.1)) },
    { weight: 10, act: async () => void (await engine().runDueTimers(anyPool(), 10)) },
    { weight: 2, act: async () => bus.loseOne() },
    { weight: 1, act: () => operate(anyPool(), random.pick(ids), random.pick(['retry', 'compensate', 'cancel'])) },
    { weight: 1, act: () => skip(anyPool(), random.pick(ids)) },
    { weight: 15, act: () => bus.fetch() },
  ]);
  await act();
}

async function worker(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) {
    try {
      await anything();
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'ECONNRESET') throw error;
      met.broken++;
    }
  }
}

/** Nothing fails any more, and operators retry what waits for them. */
async function settle(): Promise<boolean> {
  await bus.fetch();
  while (!bus.isEmpty) {
    bus.command('agree', false);
    await bus.replies(pool, false);
    await bus.fetch();
  }
  await engine().runDueTimers(pool, 1_000);
  const { rows } = await pool.query<{ id: string; state: InstanceState }>(
    'select id, state from ferry.saga where ended_at is null',
  );
  for (const { id, state } of rows) {
    if (state === 'stuck' || state === 'compensation_failed') {
      await operate(pool, id, 'retry');
      met.operated++;
    }
  }
  await bus.fetch();
  return rows.length === 0 && bus.isEmpty;
}

test(`sagas in a storm end done or undone, and nothing is left over (seed ${seed})`, async () => {
  await engine().register(pool);
  for (let n = 0; n < SAGAS; n++) {
    const data = { orderId: `order-${n}`, amount: n + 1, receipts: 0 };
    const { id } = await transaction(pool, (tx) => engine().start(tx, TRIP, { key: data.orderId, data }));
    ids.push(id);
  }
  await Promise.all(Array.from({ length: WORKERS }, worker));
  await waitUntil('all sagas have ended', settle, { deadlineMs: 120_000 });

  const { rows } = await pool.query<{ id: string; state: InstanceState; done: TripStep[] }>(
    `select id, state, array(select step from ferry.saga_step where saga_id = id and state = 'done') as done from ferry.saga`,
  );
  for (const { id, state, done } of rows) {
    for (const step of TRIP_STEPS) {
      const wanted = state === 'completed' && done.includes(step);
      assert.equal(participants.holds(id, step), wanted, `${id} is ${state}: ${step}`);
    }
  }
  const ended = Object.fromEntries(
    Map.groupBy(rows, ({ state }) => state)
      .entries()
      .map(([state, of]) => [state, of.length]),
  );
  assert.equal((ended.completed ?? 0) + (ended.compensated ?? 0), SAGAS);
  assert.ok(Math.min(ended.completed ?? 0, ended.compensated ?? 0, met.broken) > 0, JSON.stringify({ ended, met }));
});

const NOTHING: ReadonlyArray<readonly [what: string, query: string]> = [
  [
    'no attempt has two commands',
    `select headers from ferry.outbox where headers ? 'ferry_saga_id' group by headers having count(*) > 1`,
  ],
  [
    'no command is in the outbox and not in the history, nor the other way round',
    `select from ferry.outbox event full join ferry.saga_history entry on entry.event_id = event.id
     where event.id is null and entry.cause = 'command' or entry.id is null`,
  ],
  [
    'no undo was sent behind the pivot',
    `select from ferry.saga_history pivot join ferry.saga_history undo using (saga_id)
     where pivot.step = 'handover' and pivot.to_state = 'done' and undo.cause = 'command' and undo.purpose = 'undo' and undo.id > pivot.id`,
  ],
  [
    'each row of the history goes on where the one before it ended',
    `select from (select from_state, lag(to_state) over (partition by saga_id, step order by id) as before from ferry.saga_history) chain
     where before is not null and from_state <> before`,
  ],
  [
    'every step stands where its history ends',
    `select from ferry.saga_step now join (
       select distinct on (saga_id, step) saga_id, step, to_state from ferry.saga_history where step is not null order by saga_id, step, id desc
     ) last using (saga_id, step) where now.state <> last.to_state`,
  ],
  ['no timer is left', `select from ferry.saga where due_at is not null or ended_at is null or timer_failures > 0`],
];
for (const [what, query] of NOTHING) {
  test(what, async () => assert.equal((await pool.query(query)).rowCount, 0, `seed ${seed}`));
}
