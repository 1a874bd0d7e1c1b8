/**
 * How much an event type matters, in one place: what becomes of one that cannot be published, how often a consumer tries one that it cannot
 * apply, and how long its dead letters are kept. A type belongs to a tier (EVENT_TIERS), and a tier means what the table says, unless TIERS changes it.
 */
import { FerryError } from '../kernel/errors.ts';
import { parsePairs } from './load.ts';
import type { Config } from './variables.ts';

/**
 * `park`: it and all later events of its key wait in the dead-letter topic, so that their order is kept; `dead-letter`: it alone goes there;
 * `halt`: the relay refuses to go on.
 */
export const POISON_POLICIES = ['park', 'dead-letter', 'halt'] as const;
export type PoisonPolicy = (typeof POISON_POLICIES)[number];

export interface Tier {
  readonly poison: PoisonPolicy;
  /** Tries of a consumer's handler before it sets the event aside, the first included. */
  readonly tries: number;
  /** Days that a dead letter is kept after it was resolved or discarded; open ones are kept for ever. */
  readonly days: number;
}

const TIERS = {
  critical: { poison: 'park', tries: 10, days: 30 },
  standard: { poison: 'park', tries: 3, days: 7 },
  'best-effort': { poison: 'dead-letter', tries: 1, days: 1 },
} as const satisfies Record<string, Tier>;

export type TierName = keyof typeof TIERS;

const MAX = { tries: 100, days: 3_660 };

/** Of every type that is not listed. */
const DEFAULT: TierName = 'standard';

export class EventTiers {
  readonly #tiers: Readonly<Record<TierName, Tier>>;
  readonly #byType: ReadonlyMap<string, TierName>;

  constructor(tiers: Readonly<Record<TierName, Tier>> = TIERS, byType: ReadonlyMap<string, TierName> = new Map()) {
    this.#tiers = tiers;
    this.#byType = byType;
  }

  /** The type's own entry, else that of its namespace (`commerce.*`), else the default's. */
  of(type: string): Tier {
    return this.listed(type) ?? this.#tiers[DEFAULT];
  }

  /** As `of`; null for a type of which the configuration says nothing. */
  listed(type: string): Tier | null {
    const namespace = type.slice(0, Math.max(0, type.lastIndexOf('.')));
    const name = this.#byType.get(type) ?? this.#byType.get(`${namespace}.*`);
    return name === undefined ? null : this.#tiers[name];
  }

  tier(name: TierName): Tier {
    return this.#tiers[name];
  }
}

/** Throws CONFIG_INVALID naming the variable, the entry and what it takes. */
export function eventTiers(config: Pick<Config, 'EVENT_TIERS' | 'TIERS'>): EventTiers {
  const tiers: Record<TierName, Tier> = { ...TIERS };
  for (const [place, value] of parsePairs('TIERS', config.TIERS)) {
    const [name = '', what = ''] = place.split(/\.(.*)/, 2);
    if (!isTier(name))
      throw invalid('TIERS', place, `a tier (${Object.keys(TIERS).join(', ')}), a dot and what of it changes`);
    tiers[name] = { ...tiers[name], ...change(place, what, value) };
  }
  const byType = new Map<string, TierName>();
  for (const [type, name] of parsePairs('EVENT_TIERS', config.EVENT_TIERS)) {
    if (!isTier(name)) throw invalid('EVENT_TIERS', `${type}=${name}`, `one of ${Object.keys(TIERS).join(', ')}`);
    byType.set(type, name);
  }
  return new EventTiers(tiers, byType);
}

function isTier(name: string): name is TierName {
  return Object.hasOwn(TIERS, name);
}

function change(place: string, what: string, value: string): Partial<Tier> {
  if (what === 'poison') {
    const poison = POISON_POLICIES.find((policy) => policy === value);
    if (poison === undefined) throw invalid('TIERS', `${place}=${value}`, `one of ${POISON_POLICIES.join(', ')}`);
    return { poison };
  }
  if (what !== 'tries' && what !== 'days') throw invalid('TIERS', place, 'poison, tries or days of a tier');
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1 || number > MAX[what])
    throw invalid('TIERS', `${place}=${value}`, `a whole number from 1 to ${MAX[what]}`);
  return { [what]: number };
}

function invalid(variable: 'TIERS' | 'EVENT_TIERS', got: string, takes: string): FerryError {
  return new FerryError('CONFIG_INVALID', `${variable} has ${JSON.stringify(got)}; it takes ${takes}`, {
    details: { variable },
  });
}
