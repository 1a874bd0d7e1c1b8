/** What the relay does with a replay's message: one record more, at the message's place in the commit order. */
import { decodeReplayMessage } from '../events/replay-message.ts';
import type { ControlGate, ControlHandler } from './control-gate.ts';
import type { RecordFactory } from './record-factory.ts';

export function replayHandler(factory: RecordFactory, gate: Pick<ControlGate, 'accept' | 'reject'>): ControlHandler {
  return async function* (message) {
    const replay = decodeReplayMessage(message.body);
    if (replay === null) {
      gate.reject(message, 'its body is no event of a replay');
      return;
    }
    yield await factory.makeReplayed(replay, message.position);
    gate.accept(message);
  };
}
