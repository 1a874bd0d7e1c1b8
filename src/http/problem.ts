/** Errors as answers: application/problem+json (RFC 9457), with Ferry's code, the remedy, and the path of the field at fault. */
import { Type } from '@fastify/type-provider-typebox';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { coerceError, ERRORS, type ErrorCode, FerryError } from '../kernel/errors.ts';
import { ferryErrorOf } from '../postgres/sqlstate.ts';

export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

export const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: 'urn:ferry:problem: and the code in lower case.' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    instance: Type.String({ description: 'urn:ferry:request: and the request id.' }),
    code: Type.String({ description: 'A code of docs/errors.md.' }),
    remedy: Type.String(),
    retryable: Type.Boolean({ description: 'Whether the same request may succeed later.' }),
    errors: Type.Optional(
      Type.Array(Type.Object({ path: Type.String({ description: 'JSON pointer.' }), message: Type.String() })),
    ),
  },
  { $id: 'Problem', description: 'RFC 9457 problem details.' },
);

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly instance: string;
  readonly code: ErrorCode;
  readonly remedy: string;
  readonly retryable: boolean;
  readonly errors?: ReadonlyArray<{ readonly path: string; readonly message: string }>;
}

/** Seconds after which a retryable refusal may be repeated. */
const RETRY_AFTER_SECONDS: Partial<Record<ErrorCode, number>> = {
  REGISTRY_UNAVAILABLE: 5,
  PARTITION_MISSING: 30,
  PART_UNREACHABLE: 5,
};

/** The problem that an error is answered with. Errors that are nobody's mistake but ours tell their details to the log only. */
export function problemOf(error: FerryError, requestId: string): Problem {
  const { code, status } = error;
  const kebab = code.toLowerCase().replaceAll('_', '-');
  const hidden = code === 'INTERNAL';
  const path = typeof error.details.path === 'string' ? error.details.path : null;
  return {
    type: `urn:ferry:problem:${kebab}`,
    title: kebab.charAt(0).toUpperCase() + kebab.slice(1).replaceAll('-', ' '),
    status,
    detail: hidden ? 'something went wrong inside Ferry' : error.message,
    instance: `urn:ferry:request:${requestId}`,
    code,
    remedy: ERRORS[code].remedy,
    retryable: error.retryable,
    ...(path === null || hidden ? {} : { errors: [{ path, message: error.message }] }),
  };
}

/** Answers with the error's problem; logs what is not the client's doing. */
export function sendProblem(thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = requestErrorOf(thrown);
  if (error.status >= 500) request.log.error({ err: error, code: error.code }, 'request failed');
  const problem = problemOf(error, request.id);
  if (error.retryable) reply.header('retry-after', String(RETRY_AFTER_SECONDS[error.code] ?? 1));
  if (error.code === 'UNAUTHENTICATED') reply.header('www-authenticate', 'Bearer realm="ferry"');
  return reply.code(problem.status).header('content-type', PROBLEM_TYPE).send(JSON.stringify(problem));
}

/** Whatever was thrown while a request was answered, as an error of the table. */
function requestErrorOf(thrown: unknown): FerryError {
  const known = ferryErrorOf(thrown);
  if (known !== undefined) return known;
  const error: Error & Partial<FastifyError> = coerceError(thrown);
  if (error.validation !== undefined) return validationError(error);
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new FerryError('REQUEST_TOO_LARGE', 'the body is too large');
  if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return new FerryError('UNSUPPORTED_MEDIA_TYPE', 'the content type is not application/json');
  }
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500) {
    return new FerryError('MALFORMED_REQUEST', 'the request cannot be read', { cause: error });
  }
  return new FerryError('INTERNAL', 'a request failed unexpectedly', { cause: error });
}

/** The validators' messages name types and limits, never the value that was sent. */
function validationError(error: Partial<FastifyError>): FerryError {
  const [first] = error.validation ?? [];
  const missing = first?.params.requiredProperties;
  const surplus = first?.params.additionalProperties;
  const name = [missing, surplus].flat().find((property) => typeof property === 'string');
  const pointer = `${first?.instancePath ?? ''}${name === undefined ? '' : `/${pointerToken(name)}`}`;
  const part = error.validationContext ?? 'request';
  const path = part === 'body' ? pointer : `/${part}${pointer}`;
  const reason = surplus === undefined ? (first?.message ?? 'is not valid') : 'is not a known field';
  return new FerryError('INVALID_REQUEST', `${path === '' ? 'the body' : path}: ${reason}`, { details: { path } });
}

/** A name as it stands in a JSON pointer (RFC 6901). */
export function pointerToken(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}
