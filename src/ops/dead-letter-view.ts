/** One dead letter for somebody to look at: with its payload read, and personal data taken out unless they may see it. */
import type { PayloadViews } from '../deadletter/payload-views.ts';
import { canonicalJson } from '../kernel/exact-json.ts';
import type { Queryable } from '../postgres/connection.ts';
import { type DeadLetterContents, findDeadLetter } from './dead-letters.ts';

/** Payloads are plain JSON here, not text. */
export interface DeadLetterView extends Omit<DeadLetterContents, 'payload' | 'patched'> {
  /** Null where it cannot be read, or is null. */
  readonly payload: unknown;
  readonly decoded: boolean;
  /** Null: nothing was patched. */
  readonly patched: unknown;
}

/** `disclosed`: what is shown holds personal data, which whoever shows it notes in the audit. Rejects with NOT_FOUND. */
export async function readLetterFor(
  db: Queryable,
  views: PayloadViews,
  id: string,
  whole: boolean,
): Promise<{ contents: DeadLetterView; disclosed: boolean }> {
  const letter = await findDeadLetter(db, id);
  const redacted = await show(letter, (source) => views.redacted(source));
  if (!whole) return { contents: redacted, disclosed: false };
  const contents = await show(letter, (source) => views.whole(source));
  const texts = [redacted, contents].map(({ payload, patched }) => canonicalJson([payload, patched]));
  return { contents, disclosed: texts[0] !== texts[1] };
}

async function show(
  letter: DeadLetterContents,
  read: (source: Omit<DeadLetterContents, 'patched'>) => Promise<unknown>,
): Promise<DeadLetterView> {
  const { patched, ...source } = letter;
  const payload = await read(source);
  return {
    ...source,
    payload: payload === undefined ? null : payload,
    decoded: payload !== undefined,
    patched: patched === null ? null : await read({ ...source, payload: patched, schemaId: null }),
  };
}
