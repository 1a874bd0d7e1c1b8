/**
 * Whether a group still counts its member in. kafkajs 2.2.4 may go on without being one: told by the coordinator that it is unknown, it
 * forgets its id; if joining again then fails (a coordinator that has only just come back), it fetches on from the partitions that it had,
 * sends no heartbeat for want of an id, and has every commit refused, for ever. The partitions that it should have got nobody reads.
 */
import type { Consumer } from 'kafkajs';

export class Membership {
  #silence: NodeJS.Timeout | undefined;

  /** From the first join on: `onLost` is called when the coordinator has confirmed neither a heartbeat nor a join for `silenceMs`. */
  constructor(consumer: Consumer, silenceMs: number, onLost: () => void) {
    const confirmed = () => {
      clearTimeout(this.#silence);
      this.#silence = setTimeout(onLost, silenceMs).unref();
    };
    consumer.on(consumer.events.GROUP_JOIN, confirmed);
    consumer.on(consumer.events.HEARTBEAT, confirmed);
  }

  /** Nothing is called any more. */
  end(): void {
    clearTimeout(this.#silence);
  }
}
