/** What the exit code of a command says, and what is printed when one fails. */
import { coerceError, describeError, type ErrorCode, FerryError } from '../kernel/errors.ts';

export const EXIT = {
  fine: 0,
  failedCheck: 1,
  wrongUsage: 2,
  partMissing: 3,
} as const;

/** For `--help`. */
export const EXIT_HELP = 'Exit codes: 0 fine, 1 failed check, 2 wrong usage, 3 a part is missing or unreachable.';

const WRONG_USAGE: ReadonlySet<ErrorCode> = new Set(['CONFIG_INVALID', 'INVALID_REQUEST']);
const PART_MISSING: ReadonlySet<ErrorCode> = new Set([
  'PART_MISSING',
  'PART_UNREACHABLE',
  'PORT_TAKEN',
  'HOME_UNUSABLE',
  'REGISTRY_UNAVAILABLE',
]);

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof FerryError)) return EXIT.failedCheck;
  if (WRONG_USAGE.has(error.code)) return EXIT.wrongUsage;
  return PART_MISSING.has(error.code) ? EXIT.partMissing : EXIT.failedCheck;
}

/** One clear message and the way out; the stack only where somebody debugs. */
export function failureText(error: unknown, debug: boolean): string {
  const lines = [`ferry: ${describeError(error)}`];
  if (error instanceof FerryError) lines.push(`  → ${error.remedy}  [${error.code}]`);
  if (debug) lines.push(coerceError(error).stack ?? '');
  return lines.join('\n');
}
