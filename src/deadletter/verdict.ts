/** What has become of a dead letter, by what its owner's database says. Pure: the statements are in group-owner.ts and relay-owner.ts. */
import type { DeadLetterState } from './states.ts';

/** What a group's inbox, its parked keys and its retries say of an event. */
export interface GroupFacts {
  readonly outcome: 'applied' | 'parked' | 'dead-lettered' | 'discarded' | null;
  /** The key's row; null: the key is not parked. */
  readonly parked: { readonly releasing: boolean; readonly behind: string; readonly code: string } | null;
  /** How the retry ended that the letter asked for; null: it has not, or there is none. */
  readonly retry: {
    readonly outcome: 'applied' | 'discarded' | 'failed';
    readonly code: string;
    readonly message: string;
  } | null;
}

/** What the relay's database says of an event. */
export interface RelayFacts {
  readonly published: boolean;
  /** It was left out when its key was released. */
  readonly discarded: boolean;
  /** Code under which it is a dead letter of the relay still. */
  readonly deadLetterCode: string | null;
  /** Whether the relay has come past what the letter asked of it. */
  readonly passed: boolean;
}

export interface WatchedLetter {
  readonly eventId: string;
  readonly state: DeadLetterState;
}

/** Null: nothing that would change it. `code` and `message` are those of the new failure. */
export type Verdict =
  | { readonly state: 'resolved' | 'discarded' }
  | { readonly state: 'open'; readonly code: string; readonly message: string }
  | null;

export function groupVerdict({ state, eventId }: WatchedLetter, { outcome, parked, retry }: GroupFacts): Verdict {
  if (outcome === 'applied') return { state: 'resolved' };
  if (outcome === 'discarded') return state === 'discarded' ? null : { state: 'discarded' };
  if (state !== 'replaying') return null;
  if (retry?.outcome === 'failed') return { state: 'open', code: retry.code, message: retry.message };
  if (outcome !== 'parked' || parked?.releasing === true) return null;
  if (parked === null) {
    const message = 'its key was released without it: no handler of the group wants this type';
    return { state: 'open', code: 'HANDLER_MISSING', message };
  }
  // the release came to an end, and not past this event
  return parked.behind === eventId
    ? { state: 'open', code: parked.code, message: 'it failed again when its key was released' }
    : { state: 'open', code: 'KEY_PARKED', message: `an earlier event of this key (${parked.behind}) failed again` };
}

export function relayVerdict({ state }: WatchedLetter, facts: RelayFacts): Verdict {
  const { published, discarded, deadLetterCode, passed } = facts;
  if (discarded) return state === 'discarded' ? null : { state: 'discarded' };
  if (deadLetterCode === null) return published ? { state: 'resolved' } : null;
  if (state !== 'replaying' || !passed) return null;
  return { state: 'open', code: deadLetterCode, message: 'the relay could not publish it when it was released' };
}
