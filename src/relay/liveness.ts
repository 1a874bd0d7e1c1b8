/**
 * Tells a dead replication connection from a busy one. Dead is only who sends no byte at all, though read and asked for one: behind a
 * large transaction everything else may be late for minutes, and dialling again would begin it from its start, for ever.
 */
import type { ChangeStream } from '../events/change-stream.ts';
import type { Lsn } from '../kernel/lsn.ts';

export interface LivenessOptions {
  readonly stream: ChangeStream;
  readonly deadAfterMs: number;
  /** Whether we are the ones who do not read. */
  readonly isPaused: () => boolean;
  readonly confirmedLsn: () => Lsn;
  readonly onDead: (error: Error) => void;
}

/** A check to be called about once a second. */
export function livenessCheck(options: LivenessOptions): () => void {
  const { stream, deadAfterMs, isPaused, confirmedLsn, onDead } = options;
  let bytes = stream.bytesReceived;
  let heardAt = performance.now();
  return () => {
    const silentMs = performance.now() - heardAt;
    if (stream.bytesReceived !== bytes || isPaused()) {
      bytes = stream.bytesReceived;
      heardAt = performance.now();
    } else if (silentMs > deadAfterMs) {
      onDead(new Error(`no byte from Postgres for ${Math.round(silentMs)} ms`));
    } else if (silentMs > deadAfterMs / 2) {
      stream.confirm(confirmedLsn(), { requestReply: true });
    }
  };
}
