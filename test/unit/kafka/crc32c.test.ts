/** CRC-32C against RFC 3720, appendix B.4, and against the definition, bit by bit. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { crc32c } from '../../../src/kafka/crc32c.ts';

/** From the RFC, whose checksums are printed byte by byte, least significant first. */
const VECTORS: ReadonlyArray<readonly [what: string, data: Buffer, checksum: string]> = [
  ['32 bytes of zeroes', Buffer.alloc(32), 'aa36918a'],
  ['32 bytes of ones', Buffer.alloc(32, 0xff), '43aba862'],
  ['32 bytes of incrementing 00..1f', Buffer.from(Array.from({ length: 32 }, (_, i) => i)), '4e79dd46'],
  ['32 bytes of decrementing 1f..00', Buffer.from(Array.from({ length: 32 }, (_, i) => 31 - i)), '5cdb3f11'],
  [
    'an iSCSI SCSI Read (10) command PDU',
    Buffer.from(
      '01c000000000000000000000000000001400000000000400000000140000001828000000000000000200000000000000',
      'hex',
    ),
    '563a96d9',
  ],
];

for (const [what, data, checksum] of VECTORS) {
  test(what, () => {
    const printed = Buffer.alloc(4);
    printed.writeUInt32LE(crc32c(data));
    assert.equal(printed.toString('hex'), checksum);
  });
}

test('any data from any start, as the polynomial says', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), fc.nat(20), (data, start) => {
      assert.equal(crc32c(data, start), bitwise(data.subarray(start)));
    }),
  );
});

function bitwise(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}
