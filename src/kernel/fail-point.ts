/**
 * Named fail points: places where a test may end the process as if it had been killed, or run something at exactly that moment.
 * Armed only through FERRY_FAIL_POINT (`name` or `name:nth`), read once by the composition root; without it a fail point is one
 * comparison. The idea is supabase/etl's `failpoints.rs`.
 */
export type FailPoint = (name: FailPointName) => void;

export const FAIL_POINTS = [
  'after-receive',
  'after-encode',
  'after-send',
  'before-end-txn',
  'after-commit-before-confirm',
  'while-reading-checkpoint',
  'inside-split-transaction',
] as const;
export type FailPointName = (typeof FAIL_POINTS)[number];

export const noFailPoints: FailPoint = () => {};

/** Parses FERRY_FAIL_POINT; the process is ended with SIGKILL the nth time (1 by default) that the named point is passed. */
export function armFailPoint(spec: string | undefined): FailPoint {
  if (spec === undefined || spec === '') return noFailPoints;
  const [name, nthText] = spec.split(':');
  if (!FAIL_POINTS.includes(name as FailPointName)) {
    throw new TypeError(
      `FERRY_FAIL_POINT: unknown fail point ${JSON.stringify(name)}; known: ${FAIL_POINTS.join(', ')}`,
    );
  }
  let left = Number(nthText ?? '1');
  return (passed) => {
    if (passed !== name) return;
    left -= 1;
    if (left === 0) process.kill(process.pid, 'SIGKILL');
  };
}
