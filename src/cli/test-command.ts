/** `./ferry test`: hands over to the test runner, which is no part of the product. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type CommonOptions, REPOSITORY, type Session } from './session.ts';

/** Resolves with the runner's exit code. */
export async function runTests(_session: Session, _options: CommonOptions, args: readonly string[]): Promise<number> {
  const runner = spawn(process.execPath, [join(REPOSITORY, 'test/run.ts'), ...args], { stdio: 'inherit' });
  const forward = (signal: NodeJS.Signals) => runner.kill(signal);
  process.on('SIGTERM', forward);
  process.on('SIGINT', () => {}); // the terminal sends it to the runner too
  const [code] = await once(runner, 'exit');
  process.off('SIGTERM', forward);
  return typeof code === 'number' ? code : 1;
}
