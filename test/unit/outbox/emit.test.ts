import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isEventId } from '../../../src/kernel/event-id.ts';
import { type EmitInput, emit, INSERT_EVENT } from '../../../src/outbox/emit.ts';

/** What `emit` gives to a driver. */
async function given(event: Partial<EmitInput>): Promise<{ text: string; values: unknown[]; id: string }> {
  const statements: Array<{ text: string; values: unknown[] }> = [];
  const driver = { query: async (text: string, values: unknown[]) => void statements.push({ text, values }) };
  const id = await emit(driver, { aggregateType: 'order', aggregateId: '1', type: 'a.B', payload: {}, ...event });
  const [statement] = statements;
  assert.ok(statement !== undefined && statements.length === 1);
  return { ...statement, id };
}

describe('emit', () => {
  it('uses each numbered parameter once and in order, so that drivers with question marks can be served', async () => {
    const { text, values } = await given({});
    const numbers = [...text.matchAll(/\$(\d+)/g)].map((match) => Number(match[1]));
    assert.deepEqual(
      numbers,
      values.map((_, index) => index + 1),
    );
    assert.equal(text, INSERT_EVENT);
  });

  it('resolves to the id that was inserted, a UUIDv7', async () => {
    const { values, id } = await given({});
    assert.equal(values[0], id);
    assert.ok(isEventId(id));
  });

  it('tells the three kinds of payload apart', async () => {
    const kinds = async (payload: unknown) => (await given({ payload })).values.slice(6, 9);
    assert.deepEqual(await kinds({ n: 2n ** 60n }), ['{"n":1152921504606846976}', null, false]);
    assert.deepEqual(await kinds(new Uint8Array([0, 1])), [null, Buffer.from([0, 1]), false]);
    assert.deepEqual(await kinds(null), [null, null, true]);
  });

  it('counts, sets or leaves out the version', async () => {
    const version = async (aggregateVersion: EmitInput['aggregateVersion'] | undefined) =>
      (await given(aggregateVersion === undefined ? {} : { aggregateVersion })).values.slice(3, 5);
    assert.deepEqual(await version('next'), [true, null]);
    assert.deepEqual(await version(7n), [false, 7n]);
    assert.deepEqual(await version(undefined), [false, null]);
  });

  it('takes no payload that the generated type of the event refuses', async () => {
    const releasedAt = '2026-01-02T03:04:05.000000Z';
    const payload = { customerId: 'ada', orderId: '1', currency: 'EUR', amount: '1.00', available: '2.00', releasedAt };
    const driver = { query: async () => {} };
    const event = { aggregateType: 'customer', aggregateId: 'ada', type: 'commerce.CreditReleased' } as const;
    await emit(driver, { ...event, payload });
    await emit(driver, { ...event, payload: new Uint8Array([0]) });
    await emit(driver, { ...event, type: 'another.Type', payload: { anything: 1 } });
    // @ts-expect-error: the compiler is what is tested here; an amount is text
    await emit(driver, { ...event, payload: { ...payload, amount: 1 } });
  });
});
