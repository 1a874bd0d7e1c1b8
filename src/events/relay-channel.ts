/**
 * How somebody who waits for a relay asks it to hurry: a NOTIFY on the relay's channel, whatever it carries, asks for a heartbeat at once,
 * and the heartbeat tells the database how far the relay has published (ferry.relay_progress).
 */

/** The channel that the relay of this name listens on: with a name of at most 40 characters within Postgres's 63. */
export function relayChannel(relay: string): string {
  return `ferry_relay_${relay}`;
}
