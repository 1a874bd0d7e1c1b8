/**
 * Read your writes over HTTP: a write answers with its position, a read that brings one back is held until the projection has applied it
 * (docs/CONSUMERS.md).
 */
import { type Static, Type } from '@fastify/type-provider-typebox';
import type { FastifyReply } from 'fastify';
import type { UntilApplied, WaitResult } from '../inbox/position-gate.ts';
import { FerryError } from '../kernel/errors.ts';
import { parseLsn } from '../kernel/lsn.ts';
import { currentPosition } from '../outbox/position.ts';
import type { Queryable } from '../postgres/connection.ts';
import { clientGone } from './client-gone.ts';
import { preferredWaitSeconds } from './prefer.ts';

const LSN_PATTERN = '^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$';
const DEFAULT_WAIT_SECONDS = 2;
const MAX_WAIT_SECONDS = 30;

/** Headers of a write's answer, for the contract. */
export const WRITTEN = {
  headers: {
    'Ferry-Position': Type.String({
      pattern: LSN_PATTERN,
      description: 'Where the write stands: send it with a read of a projection, and the read will show the write.',
    }),
  },
};

/** Headers of the answer of a read that can be held, for the contract. */
export const HELD = {
  headers: {
    'Ferry-Stale': Type.Literal('true', {
      description: 'Only if the answer may lack what was written up to Ferry-Position.',
    }),
    'Preference-Applied': Type.String({ description: 'The longest wait that was agreed to, if one was preferred.' }),
  },
};

/** Request headers of a read that can be held. */
export const PositionHeaders = Type.Object({
  'ferry-position': Type.Optional(
    Type.String({
      pattern: LSN_PATTERN,
      description: 'Ferry-Position of a write: the answer waits until the projection has applied it.',
    }),
  ),
  prefer: Type.Optional(
    Type.String({
      maxLength: 1_000,
      description: `RFC 7240: wait=<seconds> to wait at most, up to ${MAX_WAIT_SECONDS}; default: ${DEFAULT_WAIT_SECONDS}.`,
    }),
  ),
  'ferry-allow-stale': Type.Optional(
    Type.Enum(['true', 'false'], {
      description: 'true: after the wait rather an answer that lacks the write, marked with Ferry-Stale, than a 503.',
    }),
  ),
});

/** Tells the client where its write stands. Call it after the commit. */
export async function tellPosition(reply: FastifyReply, db: Queryable): Promise<void> {
  try {
    reply.header('ferry-position', await currentPosition(db));
  } catch (err) {
    reply.log.warn({ err }, 'a write has no position to tell'); // it is committed all the same, and its answer must say so
  }
}

/**
 * Waits until the position that the request brings is applied; without one it returns at once. Throws PROJECTION_BEHIND when that takes
 * longer than the client wants to wait, unless it takes a stale answer: then the answer is marked as one.
 */
export async function untilPositionApplied(
  untilApplied: UntilApplied,
  headers: Static<typeof PositionHeaders>,
  reply: FastifyReply,
  stopping: AbortSignal,
): Promise<void> {
  const text = headers['ferry-position'];
  if (text === undefined) return;
  const preferred = preferredWaitSeconds(headers.prefer ?? '');
  const waitSeconds = Math.min(preferred ?? DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS);
  if (preferred !== null) reply.header('preference-applied', `wait=${waitSeconds}`);

  const signal = AbortSignal.any([clientGone(reply), stopping]);
  const result = await untilApplied({ position: parseLsn(text), timeoutMs: waitSeconds * 1_000, signal });
  if (result === 'applied') return;
  if (headers['ferry-allow-stale'] !== 'true') {
    throw new FerryError('PROJECTION_BEHIND', `position ${text} is not applied: ${REASONS[result]}`);
  }
  reply.header('ferry-stale', 'true');
}

const REASONS: Readonly<Record<Exclude<WaitResult, 'applied'>, string>> = {
  'relay-behind': 'the relay has not told yet that it is published',
  'consumers-behind': 'it is published, and the projection’s consumers have not come that far',
  unknown: 'how far it is cannot be told at the moment',
};
