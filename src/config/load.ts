/** Reads the environment once, at start; a wrong value names the variable, what it got and what it takes. */
import { Value } from 'typebox/value';
import { FerryError } from '../kernel/errors.ts';
import { type Config, EnvironmentSchema, VARIABLES, type VariableName } from './variables.ts';

export interface VariableInfo {
  readonly name: VariableName;
  readonly default: string;
  readonly unit: string;
  readonly takes: string;
  readonly description: string;
  readonly secret: boolean;
}

interface SchemaFacts {
  readonly default?: unknown;
  readonly unit?: string;
  readonly description?: string;
  readonly secret?: boolean;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
}

function takes(facts: SchemaFacts): string {
  if (facts.enum !== undefined) return `one of ${facts.enum.join(', ')}`;
  if (facts.minimum !== undefined) return `a whole number from ${facts.minimum} to ${facts.maximum}`;
  return 'text';
}

/** The variables with their facts, for `./ferry config` and the README's table. */
export function describeVariables(): VariableInfo[] {
  return Object.entries(VARIABLES).map(([name, schema]) => {
    const facts = schema as SchemaFacts;
    return {
      name: name as VariableName,
      default: facts.default === undefined ? '' : String(facts.default),
      unit: facts.unit ?? '',
      takes: takes(facts),
      description: facts.description ?? '',
      secret: facts.secret === true,
    };
  });
}

/** Whole numbers only: TypeBox's own conversion would make 1 of both `1.5` and `true`. Other text is left for the check to refuse. */
function readValue(name: VariableName, text: string | undefined): string | number | undefined {
  const wantsNumber = 'minimum' in VARIABLES[name];
  return wantsNumber && text !== undefined && /^-?\d{1,15}$/.test(text.trim()) ? Number(text) : text;
}

/** Throws CONFIG_INVALID with one line for each wrong variable. An empty value counts as unset. */
export function loadConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const infos = describeVariables();
  const given = Object.fromEntries(
    infos
      .map(({ name }) => [name, readValue(name, environment[name])])
      .filter(([, value]) => value !== undefined && value !== ''),
  );
  const config = Value.Default(EnvironmentSchema, given);
  const wrong = infos.filter(({ name }) => {
    const value = (config as Record<string, unknown>)[name];
    return value !== undefined && !Value.Check(VARIABLES[name], value);
  });
  if (wrong.length > 0) {
    const lines = wrong.map(({ name, takes: expected, secret }) => {
      const got = secret ? 'a value that is not shown' : JSON.stringify(environment[name]);
      return `${name} is ${got}; it takes ${expected}`;
    });
    throw new FerryError('CONFIG_INVALID', lines.join('\n'), { details: { variable: wrong[0]?.name ?? '' } });
  }
  return config as Config;
}

/** Values as they may be shown: secrets keep nothing but that they are set, addresses lose their password. */
export function maskValue(info: VariableInfo, value: unknown): string {
  if (value === undefined) return '';
  const shown = String(value);
  if (!info.secret) return shown;
  try {
    const url = new URL(shown);
    if (url.password !== '') url.password = '***';
    return url.toString();
  } catch {
    return '***';
  }
}

/** Parses `a=b,c=d` pairs such as TOPIC_ROUTES. Throws CONFIG_INVALID naming the variable. */
export function parsePairs(variable: VariableName, value: string): Map<string, string> {
  const pairs = new Map<string, string>();
  for (const item of value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')) {
    const [key, target, ...rest] = item.split('=');
    if (!key || !target || rest.length > 0) {
      throw new FerryError(
        'CONFIG_INVALID',
        `${variable} has ${JSON.stringify(item)}; it takes key=value pairs separated by commas`,
      );
    }
    pairs.set(key, target);
  }
  return pairs;
}
