/** A group of recorders (recorder.ts): its members as processes, and the count of what they did against the ledger and the dead letters. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { deadLetterTopic } from '../../src/events/routes.ts';
import type { ConsumerSettings } from '../../src/inbox/event-consumer.ts';
import { coerceError } from '../../src/kernel/errors.ts';
import { untilConsumed } from './consumer-group.ts';
import { FerryProcess } from './processes.ts';
import type { RelayLab } from './relay-lab.ts';
import { waitUntil } from './signals.ts';

export interface Behaviour extends Partial<ConsumerSettings> {
  /** Regular expressions over `<aggregate id>/<version>`: events whose handler always throws, or never ends by itself. */
  readonly throws?: string;
  readonly hangs?: string;
}

/** What a recorder is told. */
export interface Recording extends Behaviour {
  readonly group: string;
  readonly topics: readonly string[];
}

export interface RecorderCount {
  readonly applied: number;
  readonly deadLettered: number;
}

const APPLY_DEADLINE_MS = 120_000;
const KEPT_LOG_LINES = 20;
const SCRIPT = join(import.meta.dirname, 'recorder.ts');

export class RecorderGroup {
  readonly group: string;
  readonly #lab: RelayLab;
  readonly #recording: Recording;
  readonly #members: FerryProcess[] = [];

  private constructor(lab: RelayLab, recording: Recording) {
    this.#lab = lab;
    this.#recording = recording;
    this.group = recording.group;
  }

  /** Reads the lab's orders as the group `<topic prefix><name>`; no member runs yet. */
  static async open(lab: RelayLab, name: string, behaviour: Behaviour = {}): Promise<RecorderGroup> {
    await lab.sql(TABLES);
    const group = `${lab.config.TOPIC_PREFIX}${name}`;
    return new RecorderGroup(lab, { group, topics: [lab.topic('order')], ...behaviour });
  }

  /** A member, not started. */
  newMember(environment: Readonly<Record<string, string>> = {}): FerryProcess {
    const env = { ...this.#lab.environment, ...environment, RECORDER: JSON.stringify(this.#recording) };
    const member = new FerryProcess({ script: SCRIPT, env });
    this.#members.push(member);
    return member;
  }

  /** Waits until an event is applied. */
  async untilApplied(eventId: string | undefined, deadlineMs = APPLY_DEADLINE_MS): Promise<void> {
    const isApplied = async () => {
      const found = 'select from public.recorded_event where consumer_group = $1 and event_id = $2';
      return (await this.#lab.sql(found, [this.group, eventId])).rowCount === 1;
    };
    await this.#explained(waitUntil('the event being applied', isApplied, { deadlineMs }));
  }

  /** A failure tells the last words of members and relay. */
  async #explained(wait: Promise<unknown>): Promise<void> {
    try {
      await wait;
    } catch (thrown) {
      throw this.#explain(coerceError(thrown));
    }
  }

  #explain(error: Error): Error {
    const logs = this.#members.flatMap((member, i) =>
      [...member.lines.map((line) => JSON.stringify(line)), ...member.output]
        .slice(-KEPT_LOG_LINES)
        .map((line) => `member ${i + 1}: ${line}`),
    );
    error.message += `\n${logs.join('\n')}`;
    return this.#lab.explain(error);
  }

  async applied(): Promise<number> {
    const { rows } = await this.#lab.sql<{ count: number }>(
      'select count(*)::int as count from public.recorded_event where consumer_group = $1',
      [this.group],
    );
    return rows[0]?.count ?? 0;
  }

  /** How many dead letters each event has. */
  async deadLetters(): Promise<Map<string, number>> {
    const letters = new Map<string, number>();
    for (const { headers } of await this.#lab.records(deadLetterTopic(this.group))) {
      const id = headers.ce_id ?? '';
      letters.set(id, (letters.get(id) ?? 0) + 1);
    }
    return letters;
  }

  /** The events whose handler fails, and all that follow them in their keys; sorted. */
  async poisonedEvents(): Promise<string[]> {
    const { throws, hangs } = this.#recording;
    const pattern = [throws, hangs].filter((part) => part !== undefined).join('|') || '^$';
    const { rows } = await this.#lab.sql<{ id: string }>(POISONED, [pattern]);
    return rows.map(({ id }) => id).sort();
  }

  /**
   * The assertion: waits until the group has consumed all there is, and fails unless each event of the outbox was applied once or is a dead
   * letter (at least once), never both, the inbox knows each, and each key's events were applied in their order. `released`: all dead letters
   * were released, so that each event must be applied.
   */
  async assertEffectivelyOnce({ released = false } = {}): Promise<RecorderCount> {
    await this.#explained(untilConsumed(this.#lab.config, this.group, this.#recording.topics));
    const deadLetters = released ? [] : [...(await this.deadLetters()).keys()];
    const { rows } = await this.#lab.sql<Record<string, number>>(COUNT, [this.group, deadLetters]);
    const { events = 0, applied = 0, ...faults } = rows[0] ?? {};
    assert.deepEqual(faults, { repeated: 0, unexpected: 0, missing: 0, both: 0, mislabelled: 0, out_of_order: 0 });
    assert.equal(applied + deadLetters.length, events);
    return { applied, deadLettered: deadLetters.length };
  }
}

/** The lock: groups are opened side by side, and `if not exists` alone lets two of them collide. */
const TABLES = `
  select pg_advisory_xact_lock(1);
  create table if not exists public.recorded_event (consumer_group text not null, event_id uuid not null);
  create table if not exists public.recorded_key (
    consumer_group text, aggregate_id text, version bigint not null, out_of_order int not null default 0,
    primary key (consumer_group, aggregate_id))`;

const POISONED = `
  with failing as (
    select aggregateid, min(aggregateversion) as version from ferry.outbox
    where aggregateid || '/' || aggregateversion ~ $1 group by 1)
  select o.id from ferry.outbox o join failing f on f.aggregateid = o.aggregateid and f.version <= o.aggregateversion`;

const COUNT = `
  with event as (
    select o.id, coalesce(r.times, 0) as times, o.id = any($2::uuid[]) as dead_lettered, i.outcome
    from ferry.outbox o
    left join (select event_id, count(*) as times from public.recorded_event where consumer_group = $1 group by 1) r on r.event_id = o.id
    left join ferry.inbox i on i.consumer_group = $1 and i.event_id = o.id)
  select count(*)::int as events,
         count(*) filter (where times > 0)::int as applied,
         count(*) filter (where times > 1)::int as repeated,
         count(*) filter (where times = 0 and not dead_lettered)::int as missing,
         count(*) filter (where times > 0 and dead_lettered)::int as both,
         count(*) filter (where (times > 0) is distinct from (outcome = 'applied'))::int as mislabelled,
         (select count(*)::int from public.recorded_event r
          where r.consumer_group = $1 and not exists (select from ferry.outbox o where o.id = r.event_id)) as unexpected,
         (select coalesce(sum(out_of_order), 0)::int from public.recorded_key where consumer_group = $1) as out_of_order
  from event`;
