/**
 * Handlers that misbehave, on the real parts: they never end, go on after their time, swallow errors, fail at the commit, lose their
 * connection. Each harms its own event and no other's, and has its effect once or not at all.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import type { AnyHandler, HandleEvent } from '../../src/inbox/handler.ts';
import type { Queryable } from '../../src/postgres/connection.ts';
import { COUNTED, ConsumerLab, type Counted, type LabRecord } from '../support/consumer-lab.ts';
import { Signal, waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();

const OTHERS: readonly LabRecord[] = Array.from({ length: 30 }, (_, i) => ({ key: `o${i % 10}`, n: i + 1 }));
const never = () => new Promise<void>(() => {});

interface Bad {
  readonly lab: ConsumerLab;
  /** How often the bad event's handler was called. */
  calls(): number;
}

/**
 * One event of the key `bad` among thirty others, all in one piece of work at first; resolves when the others are applied and the bad one is
 * dead-lettered, or applied if it is `cured`.
 */
async function withBad(misbehave: HandleEvent<Counted>, { cured = false } = {}): Promise<Bad> {
  const lab = await ConsumerLab.open(stack);
  let calls = 0;
  const member = lab.start({
    handle: async (event, tx, context) => {
      if (event.aggregateId === 'bad') {
        calls += 1;
        await misbehave(event, tx, context);
      }
      await lab.effect(event, tx, context.attempt);
    },
    settings: { handlerTimeoutMs: 400 },
  });
  member.pause();
  await lab.send([...OTHERS.slice(0, 15), { key: 'bad', n: 1 }, ...OTHERS.slice(15)]);
  await waitUntil('the records', () => member.committable().length > 0);
  member.resume();
  await lab.untilEffects(OTHERS.length + (cured ? 1 : 0), { deadlineMs: 15_000 });
  if (!cured) await lab.untilDeadLetters(1);
  await lab.untilDone();
  const effects = await lab.effects();
  assert.equal(new Set(effects).size, effects.length, 'an effect happened twice');
  assert.equal(effects.length, OTHERS.length + (cured ? 1 : 0));
  return { lab, calls: () => calls };
}

async function letterOf({ lab }: Bad): Promise<Readonly<Record<string, string>>> {
  const letters = await lab.deadLetters();
  assert.equal(letters.length, 1);
  return letters[0]?.headers ?? {};
}

describe('a handler', { concurrency: 4 }, () => {
  test('that never ends has its tries, and the others flow on', async () => {
    const bad = await withBad(never);
    const { error_type, error_message, retry_count, replayable } = await letterOf(bad);
    assert.deepEqual(
      [error_type, error_message, retry_count, replayable],
      ['HandlerTimeoutError', 'the handler did not end within 400 ms', '2', 'true'],
    );
    assert.equal(bad.calls(), 3);
  });

  test('that never ends inside of Postgres neither keeps the locks of its transaction', async () => {
    const bad = await withBad(async (_event, tx) => {
      await tx.query('select pg_sleep(25)');
    });
    assert.equal((await letterOf(bad)).error_type, 'HandlerTimeoutError');
    assert.equal(bad.calls(), 3);
  });

  test('that goes on after its time writes nothing, and no other handler follows it', async () => {
    const ended = new Signal();
    const late: unknown[] = [];
    let calls = 0;
    const slow = async ({ tx, lab, signal }: { tx: Queryable; lab: ConsumerLab; signal: AbortSignal }) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      await lab.pool.query('select pg_sleep(0.1)'); // the consumer has turned to other things
      await tx.query(`insert into public.effect (consumer_group, key, n, event_id, attempt)
        values ('${lab.group}', 'late', 0, gen_random_uuid(), 0)`);
    };
    const lab = await ConsumerLab.open(stack, { partitions: 1 });
    const member = lab.start({
      handle: async (event, tx, context) => {
        if (event.aggregateId === 'after') calls += 1;
        if (event.aggregateId === 'slow' && late.length === 0) {
          const { signal } = context;
          await slow({ tx, lab, signal }).catch((error) => late.push(error));
          return ended.fire(); // as if nothing had happened
        }
        await lab.effect(event, tx, context.attempt);
      },
      settings: { handlerTimeoutMs: 300 },
    });
    member.pause();
    await lab.send([
      { key: 'slow', n: 1 },
      { key: 'after', n: 1 },
    ]);
    await waitUntil('the records', () => member.committable().length > 0);
    member.resume();
    await ended.wait('the late handler to end');
    await lab.untilEffects(2);
    await lab.untilDone();
    assert.deepEqual((await lab.effects()).sort(), ['after1', 'slow1']);
    assert.equal(calls, 1);
    assert.match(String(late[0]), /this transaction is over/);
  });

  test('that keeps its transaction for later cannot write into the next one', async () => {
    let kept: Queryable | undefined;
    const { lab } = await withBad(
      async (_event, tx) => {
        kept = tx;
      },
      { cured: true },
    );
    await assert.rejects(async () => kept?.query('delete from public.effect'), /this transaction is over/);
    assert.equal((await lab.effects()).length, OTHERS.length + 1);
  });

  test('that swallows the error of a statement is found out, and the others are not blamed', async () => {
    const bad = await withBad(async (_event, tx) => {
      await tx.query('select 1 / 0').catch(() => {});
    });
    const { error_code, retry_count } = await letterOf(bad);
    assert.deepEqual([error_code, retry_count], ['22012', '0']);
    const { rows } = await bad.lab.pool.query('select 1 from public.effect where consumer_group = $1 and attempt > 1', [
      bad.lab.group,
    ]);
    assert.deepEqual(rows, []);
  });

  test('may go back to a savepoint after a statement that failed', async () => {
    const { lab } = await withBad(
      async (_event, tx) => {
        await tx.query('savepoint before');
        await assert.rejects(tx.query('select 1 / 0'));
        await tx.query('rollback to savepoint before');
      },
      { cured: true },
    );
    assert.deepEqual(await lab.deadLetters(), []);
  });

  test('whose constraint fails only at the commit is found among the others', async () => {
    await createDeferred();
    const bad = await withBad(async (event, tx) => {
      await tx.query('insert into public.deferred (id) values ($1), ($1)', [event.id]);
    });
    const { error_code, replayable } = await letterOf(bad);
    assert.deepEqual([error_code, replayable], ['23505', 'false']);
  });

  test('whose error is wrapped by an object mapper is judged by its cause', async () => {
    const bad = await withBad(async (_event, tx) => {
      await tx.query(`select 'x'::int`).catch((cause) => {
        throw new Error('Failed query', { cause });
      });
    });
    assert.deepEqual([(await letterOf(bad)).error_code, (await letterOf(bad)).retry_count], ['22P02', '0']);
  });

  test('that loses its connection each time does not make the others wait for ever', async () => {
    const bad = await withBad(async (_event, tx) => {
      await tx.query('select pg_terminate_backend(pg_backend_pid())');
    });
    const { error_code, replayable } = await letterOf(bad);
    assert.deepEqual([error_code, replayable], ['57P01', 'true']);
  });

  test('that loses its connection once is called again', async () => {
    let calls = 0;
    const bad = await withBad(
      async (_event, tx) => {
        calls += 1;
        if (calls < 4) await tx.query('select pg_terminate_backend(pg_backend_pid())');
      },
      { cured: true },
    );
    assert.deepEqual(await bad.lab.deadLetters(), []);
  });

  test('of batches that fails is tried event by event, and only the one at fault is dead-lettered', async () => {
    const lab = await ConsumerLab.open(stack);
    const sizes: number[] = [];
    const ids: string[] = [];
    const handler: AnyHandler = {
      handleBatch: async (events, tx) => {
        sizes.push(events.length);
        for (const event of events) {
          await lab.effect(event, tx);
          if (event.id === ids[13]) throw new Error('o3 14');
        }
      },
    };
    const member = lab.start({ handlers: { [COUNTED]: handler }, settings: { onPoison: 'dead-letter' } });
    member.pause();
    ids.push(...(await lab.send(OTHERS)));
    await waitUntil('the records', () => member.committable().length > 0);
    member.resume();
    await lab.untilDeadLetters(1);
    await lab.untilEffects(OTHERS.length - 1);
    await lab.untilDone();
    assert.deepEqual(
      (await lab.deadLetters()).map(({ headers }) => headers.ce_id),
      [ids[13]],
    );
    const effects = await lab.effects();
    assert.equal(new Set(effects).size, OTHERS.length - 1);
    assert.ok(Math.max(...sizes) > 1, 'nothing was ever handled in a batch');
    for (let key = 0; key < 10; key++) {
      const own = await lab.effectsOf(`o${key}`);
      assert.deepEqual(
        own,
        own.toSorted((a, b) => a - b),
      );
    }
  });

  test('of batches that puts events back goes on without them, and they come again in the order of their keys', async () => {
    const lab = await ConsumerLab.open(stack);
    const ids: string[] = [];
    let tries = 0; // of the one that is never possible
    const isPossible = (n: number, attempt: number) => n !== 14 && (n % 3 !== 0 || attempt > 1);
    const handler: AnyHandler = {
      handleBatch: async (events: ReadonlyArray<ConsumedEvent<Counted>>, tx, { putBack, attempt }) => {
        const waiting = new Set<string | null>();
        for (const event of events) {
          if (waiting.has(event.aggregateId)) continue;
          const n = event.value?.n ?? 0;
          if (n === 14) tries += 1;
          if (isPossible(n, attempt)) await lab.effect(event, tx, attempt);
          else {
            waiting.add(event.aggregateId);
            putBack(event, new Error('not yet'));
          }
        }
      },
    };
    const member = lab.start({ handlers: { [COUNTED]: handler }, settings: { onPoison: 'dead-letter' } });
    member.pause();
    ids.push(...(await lab.send(OTHERS)));
    await waitUntil('the records', () => member.committable().length > 0);
    member.resume();
    await lab.untilDeadLetters(1);
    await lab.untilEffects(OTHERS.length - 1);
    await lab.untilDone();
    const [letter, ...others] = await lab.deadLetters();
    assert.deepEqual([letter?.headers.ce_id, letter?.headers.retry_count, others], [ids[13], '2', []]);
    assert.equal(tries, 3);
    const effects = await lab.effects();
    assert.equal(effects.length, OTHERS.length - 1);
    assert.equal(new Set(effects).size, effects.length);
    for (let key = 0; key < 10; key++) {
      const own = await lab.effectsOf(`o${key}`);
      assert.deepEqual(
        own,
        own.toSorted((a, b) => a - b),
      );
    }
    const outcomes = [...(await lab.inbox()).values()];
    assert.equal(outcomes.filter((outcome) => outcome === 'applied').length, OTHERS.length - 1);
    assert.equal((await lab.inbox()).get(ids[13] ?? ''), 'dead-lettered');
    // What another transaction has entered, nobody takes out again.
    await lab.pool.query(
      `select ferry.inbox_unclaim($1, array_agg(event_id), array_agg(recorded_at)) from ferry.inbox where consumer_group = $1`,
      [lab.group],
    );
    assert.equal((await lab.inbox()).size, OTHERS.length);
  });

  async function createDeferred(): Promise<void> {
    const lab = await ConsumerLab.open(stack);
    await lab.pool.query('create table public.deferred (id uuid unique deferrable initially deferred)');
  }
});
