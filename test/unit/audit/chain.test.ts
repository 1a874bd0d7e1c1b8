/** The chain's hash over made-up rows: which bytes go in, and what each kind of tampering is called. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { type AuditLink, type AuditRow, firstBreak, linkHash, NO_LINKS } from '../../../src/audit/chain.ts';

const row = (id: number, changes: Partial<AuditRow> = {}): AuditRow => ({
  id: String(id),
  at: '1767225600000000',
  principal: 'cli:anna',
  action: 'saga.retry',
  subject: `saga/${id}`,
  eventId: null,
  requestId: null,
  reason: 'the shelf was filled',
  ...changes,
});

/** Links over rows, in this order. */
function chain(rows: readonly AuditRow[]): AuditLink[] {
  const links: AuditLink[] = [];
  for (const [index, entry] of rows.entries()) {
    const position = BigInt(index + 1);
    const linkedAt = String(1767225600000000 + index);
    const previous = links.at(-1)?.hash ?? NO_LINKS.hash;
    const hash = linkHash(previous, position, linkedAt, entry);
    links.push({ position, auditId: entry.id, linkedAt, hash, row: entry });
  }
  return links;
}

const rows = [7, 5, 8, 11].map((id) => row(id));
/** The sound chain with one thing about it changed. */
const tampered = (change: (links: AuditLink[]) => AuditLink[]) => firstBreak(NO_LINKS, change(chain(rows)));

describe('the hash', () => {
  test('is SHA-256 over the fields, each with its length before it', () => {
    const bytes = Buffer.concat([
      Buffer.alloc(32, 1),
      ...['2', '3', '7', '4', 'a', 'ä', 'c'].flatMap((text) => {
        const content = Buffer.from(text);
        return [Buffer.from([0, 0, 0, content.length]), content];
      }),
      Buffer.from('ffffffff', 'hex'),
      Buffer.from('00000000', 'hex'),
      Buffer.from('ffffffff', 'hex'),
    ]);
    const entry = {
      id: '7',
      at: '4',
      principal: 'a',
      action: 'ä',
      subject: 'c',
      eventId: null,
      requestId: '',
      reason: null,
    };
    const expected = createHash('sha256').update(bytes).digest('hex');
    assert.equal(linkHash(Buffer.alloc(32, 1), 2n, '3', entry).toString('hex'), expected);
  });

  test('tells apart what reads the same one after the other', () => {
    const hash = (changes: Partial<AuditRow>) => linkHash(NO_LINKS.hash, 1n, '0', row(1, changes)).toString('hex');
    const hashes = [
      hash({ action: 'ab', subject: 'c' }),
      hash({ action: 'a', subject: 'bc' }),
      hash({ requestId: null, reason: 'x' }),
      hash({ requestId: 'x', reason: null }),
      hash({ reason: null }),
      hash({ reason: '' }),
    ];
    assert.equal(new Set(hashes).size, hashes.length);
  });
});

describe('the first break', () => {
  test('is none in a sound chain, whole or from any place on', () => {
    const links = chain(rows);
    assert.equal(firstBreak(NO_LINKS, links), null);
    const [first] = links;
    assert.ok(first);
    assert.equal(firstBreak(first, links.slice(1)), null);
    assert.equal(firstBreak(NO_LINKS, []), null);
  });

  test('is a changed row, whichever column it is', () => {
    const changes: Partial<AuditRow>[] = [
      ...[{ at: '1' }, { principal: 'cli:bert' }, { action: 'x' }, { subject: 'x' }],
      ...[{ eventId: 'x' }, { requestId: 'x' }, { reason: null }],
    ];
    for (const change of changes) {
      const found = tampered((links) => links.map((link, at) => (at === 1 ? { ...link, row: row(5, change) } : link)));
      assert.deepEqual([found?.kind, found?.position, found?.auditId], ['changed', 2n, '5'], JSON.stringify(change));
    }
  });

  test('is a changed link', () => {
    for (const change of [{ linkedAt: '1' }, { hash: Buffer.alloc(32) }]) {
      const found = tampered((links) => links.map((link, at) => (at === 2 ? { ...link, ...change } : link)));
      assert.deepEqual([found?.kind, found?.position], ['changed', 3n]);
    }
  });

  test('is a row that is gone, or whole links', () => {
    const gone = tampered((links) => links.map((link, at) => (at === 2 ? { ...link, row: null } : link)));
    assert.deepEqual([gone?.kind, gone?.position, gone?.auditId], ['missing', 3n, '8']);
    const cut = tampered((links) => links.toSpliced(1, 2));
    assert.deepEqual([cut?.kind, cut?.position], ['missing', 2n]);
    assert.match(String(cut?.what), /positions 2 to 3 are not in the chain/);
  });

  test('is rows or links that changed places', () => {
    const swapRows = tampered((links) =>
      links.map((link, at) => {
        const other = links[3 - at];
        return other === undefined || at === 0 || at === 3 ? link : { ...link, auditId: other.auditId, row: other.row };
      }),
    );
    assert.deepEqual([swapRows?.kind, swapRows?.position], ['reordered', 2n]);
    assert.match(String(swapRows?.what), /position 2 has the row 8; the row 5 of position 3 belongs there/);
    const swapLinks = tampered(([first, second, third, ...rest]) => {
      assert.ok(first && second && third);
      return [first, { ...third, position: 2n }, { ...second, position: 3n }, ...rest];
    });
    assert.deepEqual([swapLinks?.kind, swapLinks?.position], ['reordered', 2n]);
  });

  test('is a link that was slipped in and the later ones moved up', () => {
    const found = tampered(([first, ...later]) => {
      assert.ok(first);
      const slipped = { ...first, position: 2n, auditId: '99', row: row(99) };
      return [first, slipped, ...later.map((link) => ({ ...link, position: link.position + 1n }))];
    });
    assert.deepEqual([found?.kind, found?.position], ['reordered', 2n]);
  });
});
