import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plainTable } from '../../../src/cli/terminal.ts';

test('plainTable aligns columns by what is seen, and leaves no trailing blanks', () => {
  const red = (text: string) => `\u001b[31m${text}\u001b[39m`;
  const table = plainTable([['a', '1', 'note'], [red('long'), '22'], ['b']]);
  assert.equal(table, ['  a     1   note', `  ${red('long')}  22`, '  b'].join('\n'));
});
