/** Codes of dead letters as labels of a metric: handlers may throw any code, and each new value of a label is a new time series. */
import { ERRORS, type ErrorCode } from '../kernel/errors.ts';

export type BoundedCode = ErrorCode | 'SQLSTATE' | 'HTTP' | 'OTHER';

/** Ferry's codes as they are, others by their kind. */
export function boundedCode(code: string): BoundedCode {
  if (isErrorCode(code)) return code;
  if (/^HTTP_\d{3}$/.test(code)) return 'HTTP';
  return /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? 'SQLSTATE' : 'OTHER';
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}
