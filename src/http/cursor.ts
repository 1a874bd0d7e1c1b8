/** Cursors of lists that are ordered by a UUIDv7 or a number: the id of the page's last row, in the 22 characters of 16 bytes. */
import { Type } from '@fastify/type-provider-typebox';

/** Query parameters of a list that is read page by page. */
export const PageQuery = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, description: 'Default: 20.' })),
  cursor: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{22}$', description: 'nextCursor of the page before.' })),
};

export const NextCursor = Type.Union([Type.String(), Type.Null()], { description: 'Null on the last page.' });

export interface Page<Row> {
  readonly rows: readonly Row[];
  readonly nextCursor: string | null;
}

/** Reads a page by `read`, which gives at most `limit` rows whose ids are smaller than `before`, the greatest first. */
export async function readPage<Row extends { readonly id: string }>(
  { limit = 20, cursor }: { readonly limit?: number; readonly cursor?: string },
  read: (slice: { before: string | null; limit: number }) => Promise<Row[]>,
): Promise<Page<Row>> {
  const before = cursor === undefined ? null : idOfCursor(cursor);
  return pageOf(await read({ before, limit: limit + 1 }), limit, ({ id }) => hexOfId(id));
}

/** As `readPage`, of rows with numbers. */
export async function readNumberedPage<Row extends { readonly id: bigint }>(
  { limit = 20, cursor }: { readonly limit?: number; readonly cursor?: string },
  read: (slice: { beforeId: bigint | null; limit: number }) => Promise<Row[]>,
): Promise<Page<Row>> {
  // Half the bits are a bigint's: what is beyond was no cursor of ours, and finds nothing
  const beforeId = cursor === undefined ? null : BigInt.asUintN(63, BigInt(`0x${hexOfCursor(cursor)}`));
  return pageOf(await read({ beforeId, limit: limit + 1 }), limit, ({ id }) => id.toString(16).padStart(32, '0'));
}

/** One more than asked for tells whether there is a next page. */
function pageOf<Row>(found: readonly Row[], limit: number, hexOf: (row: Row) => string): Page<Row> {
  const rows = found.slice(0, limit);
  const last = found.length > limit ? rows.at(-1) : undefined;
  return { rows, nextCursor: last === undefined ? null : Buffer.from(hexOf(last), 'hex').toString('base64url') };
}

function hexOfId(id: string): string {
  return id.replaceAll('-', '');
}

function hexOfCursor(cursor: string): string {
  return Buffer.from(cursor, 'base64url').toString('hex');
}

function idOfCursor(cursor: string): string {
  return hexOfCursor(cursor).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
