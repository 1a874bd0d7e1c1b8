/** What a handler throws may quote its event: without personal data it can be shown to whoever looks after dead letters. */
import type { DiscreetDecoder } from '../registry/decoder.ts';
import { redactText } from '../registry/redaction.ts';

/** The failure of an event whose value was read before, so that its schema is known. */
export async function withoutPersonalData<F extends { readonly message: string; readonly stack?: string }>(
  failure: F,
  value: Buffer | null,
  decoder: Pick<DiscreetDecoder, 'personalTexts'>,
): Promise<F> {
  if (value === null) return failure;
  const personal = await decoder.personalTexts(value);
  const { message, stack } = failure;
  return {
    ...failure,
    message: redactText(message, personal),
    ...(stack === undefined ? {} : { stack: redactText(stack, personal) }),
  };
}
