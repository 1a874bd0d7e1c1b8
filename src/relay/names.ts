/** Names that a relay derives from its own: stable, because a restart must find what the last run left. */
import type { Config } from '../config/variables.ts';
import { FerryError } from '../kernel/errors.ts';

export interface RelayNames {
  readonly name: string;
  readonly slot: string;
  readonly publication: string;
  readonly checkpointTopic: string;
  /** Which keys wait, and what of them. */
  readonly parkedTopic: string;
}

/** Throws CONFIG_INVALID if the relay's name cannot be part of a slot's. */
export function relayNames(
  config: Pick<Config, 'RELAY_NAME' | 'RELAY_SLOT' | 'PUBLICATION_NAME' | 'TOPIC_PREFIX'>,
): RelayNames {
  const { RELAY_NAME: name, RELAY_SLOT: slot = `ferry_${config.RELAY_NAME}` } = config;
  if (!/^[a-z0-9_]{1,40}$/.test(name)) {
    throw new FerryError(
      'CONFIG_INVALID',
      `RELAY_NAME is ${JSON.stringify(name)}; it takes up to 40 of a–z, 0–9 and _`,
    );
  }
  if (!/^[a-z0-9_]{1,63}$/.test(slot)) {
    throw new FerryError(
      'CONFIG_INVALID',
      `RELAY_SLOT is ${JSON.stringify(slot)}; it takes up to 63 of a–z, 0–9 and _`,
    );
  }
  return {
    name,
    slot,
    publication: config.PUBLICATION_NAME,
    checkpointTopic: `${config.TOPIC_PREFIX}ferry.checkpoint.${name}`,
    parkedTopic: `${config.TOPIC_PREFIX}ferry.parked.${name}`,
  };
}
