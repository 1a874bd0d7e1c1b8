/** Schemas that several routes share. Bodies are closed (an unknown field is an error) and everything has a limit. */
import { type TSchema, Type } from '@fastify/type-provider-typebox';
import { AMOUNT_PATTERN, CURRENCIES } from '../domain/commerce/money.ts';
import { ProblemSchema } from './problem.ts';

export const closed = { additionalProperties: false } as const;

/** Text of the client's that Postgres and Kafka can carry: no U+0000. */
export const text = (maxLength: number, description: string) =>
  Type.String({ minLength: 1, maxLength, pattern: '^[^\\u0000]*$', description });

export const orNull = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T, description = '') =>
  Type.Union([schema, Type.Null()], description === '' ? {} : { description });

export const Uuid = Type.String({
  pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
  description: 'UUID in lower case.',
});
export const UuidV7 = Type.String({
  pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$',
  description: 'UUIDv7 in lower case.',
});
export const AmountText = Type.String({
  pattern: AMOUNT_PATTERN,
  description: 'Decimal with two places, such as 12.50.',
});
export const CurrencyCode = Type.Enum([...CURRENCIES], { description: 'ISO 4217 code.' });
export const Timestamp = Type.String({ description: 'RFC 3339 in UTC with microseconds.' });
/** Of what a client gives as a time: RFC 3339. */
export const TIME_PATTERN = '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,6})?(Z|[+-]\\d\\d:\\d\\d)$';
export const When = Type.String({ pattern: TIME_PATTERN, description: 'RFC 3339.' });
export const CustomerId = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' });
export const Sku = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' });

export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.String({
    minLength: 1,
    maxLength: 257,
    description: 'Fresh for each operation, the same when it is repeated; a UUID for example.',
  }),
});

/** A route's answers: its own, and the problems that it can end with. */
export function answers<const S extends Record<number, TSchema>, const P extends number>(
  own: S,
  problems: readonly P[],
) {
  const described = problems.map((status) => [status, ProblemSchema] as const);
  return { ...own, ...(Object.fromEntries(described) as Record<P, typeof ProblemSchema>) };
}
