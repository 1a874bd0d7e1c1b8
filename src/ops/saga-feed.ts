/**
 * The histories of sagas as they grow, for any number of followers: one query a poll serves all of them, and nothing is asked while nobody
 * waits. A follower pulls, so a slow one costs no memory.
 */
import { backoffMs, sleep } from '../kernel/deadline.ts';
import { coerceError } from '../kernel/errors.ts';
import type { Queryable } from '../postgres/connection.ts';
import { type InstanceState, isEnded } from '../saga/states.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { SagaHistoryFacts } from './sagas.ts';

/** A row of the history, without who did it and why: those words are for operators. */
export type SagaTransition = Pick<
  SagaHistoryFacts,
  'id' | 'at' | 'cause' | 'step' | 'from' | 'to' | 'purpose' | 'attempt'
>;

export interface SagaProgress {
  readonly sagaId: string;
  readonly state: InstanceState;
  /** Oldest first, all of them newer than what was asked for; there may be more. Empty: nothing happened, but it has ended. */
  readonly transitions: readonly SagaTransition[];
  /** It has ended, and `transitions` is the rest. */
  readonly ended: boolean;
}

export interface SagaFeedOptions {
  readonly db: Queryable;
  /** Name of the sagas that are followed. */
  readonly saga: string;
  readonly logger: Logger;
  /** Pause between two looks, so also how late a transition may be told. Default 250. */
  readonly pollMs?: number;
}

export interface FollowRequest {
  readonly key: string;
  /** Id of the last transition that the follower has seen; 0n for none. */
  readonly after: bigint;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

interface Follower {
  readonly key: string;
  readonly after: bigint;
  readonly tell: (progress: SagaProgress | null) => void;
}

const PAGE = 100;
const FAILURE_BACKOFF = { baseMs: 500, maxMs: 5_000 };

export class SagaFeed {
  readonly #options: SagaFeedOptions;
  readonly #followers = new Set<Follower>();
  #polling = false;

  constructor(options: SagaFeedOptions) {
    this.#options = options;
  }

  /**
   * What happened to the key's saga since, as soon as there is anything; null after the time-out, or when the signal fires. Waits through
   * outages of Postgres, and for a saga that has not begun.
   */
  next({ key, after, timeoutMs, signal }: FollowRequest): Promise<SagaProgress | null> {
    if (signal.aborted) return Promise.resolve(null);
    return new Promise((resolve) => {
      const giveUp = () => tell(null);
      const tell = (progress: SagaProgress | null) => {
        clearTimeout(timer);
        signal.removeEventListener('abort', giveUp);
        this.#followers.delete(follower);
        resolve(progress);
      };
      const timer = setTimeout(giveUp, timeoutMs);
      const follower = { key, after, tell };
      signal.addEventListener('abort', giveUp);
      this.#followers.add(follower);
      if (!this.#polling) void this.#poll();
    });
  }

  /** Runs while anybody waits. */
  async #poll(): Promise<void> {
    this.#polling = true;
    for (let failures = 0; this.#followers.size > 0; ) {
      try {
        await this.#look();
        failures = 0;
        await sleep(this.#options.pollMs ?? 250);
      } catch (error) {
        if (failures === 0) this.#options.logger.warn({ err: coerceError(error) }, 'sagas cannot be followed');
        await sleep(backoffMs(failures++, FAILURE_BACKOFF.baseMs, FAILURE_BACKOFF.maxMs));
      }
    }
    this.#polling = false;
  }

  async #look(): Promise<void> {
    const followers = [...this.#followers];
    const progress = await readProgress(this.#options.db, this.#options.saga, followers);
    for (const [index, follower] of followers.entries()) {
      const news = progress.get(index);
      if (news !== undefined) follower.tell(news);
    }
  }
}

interface ProgressRow extends Omit<SagaTransition, 'id'> {
  readonly follower: bigint;
  readonly sagaId: string;
  readonly state: InstanceState;
  /** Null: the saga has ended, and there is nothing newer. */
  readonly id: bigint | null;
}

/**
 * News by the index of the follower. One saga's history is written under its row's lock, so its ids become visible in their order: who has
 * seen an id has seen all before. One statement, one snapshot: an ended saga's history is whole.
 */
async function readProgress(
  db: Queryable,
  saga: string,
  followers: ReadonlyArray<Pick<Follower, 'key' | 'after'>>,
): Promise<Map<number, SagaProgress>> {
  const { rows } = await db.query<ProgressRow>(
    `select follower, saga.id as "sagaId", saga.state, history.id, history.at, history.cause, history.step,
            history.from_state as "from", history.to_state as "to", history.purpose, history.attempt
     from unnest($2::text[], $3::bigint[]) with ordinality as given (key, after, follower)
     join ferry.saga on saga.name = $1 and saga.key = given.key
     left join lateral (
       select * from ferry.saga_history where saga_id = saga.id and id > given.after order by id limit $4
     ) history on true
     where history.id is not null or saga.ended_at is not null
     order by follower, history.id`,
    [saga, followers.map(({ key }) => key), followers.map(({ after }) => String(after)), PAGE],
  );
  const byFollower = Map.groupBy(rows, ({ follower }) => Number(follower) - 1);
  return new Map([...byFollower].map(([index, news]) => [index, progressOf(news)]));
}

function progressOf(rows: readonly ProgressRow[]): SagaProgress {
  const [first] = rows;
  if (first === undefined) throw new Error('a group of no rows');
  const { sagaId, state } = first;
  const transitions = rows.flatMap(({ follower: _, sagaId: __, state: ___, id, ...row }) =>
    id === null ? [] : [{ id, ...row }],
  );
  return { sagaId, state, transitions, ended: isEnded(state) && transitions.length < PAGE };
}
