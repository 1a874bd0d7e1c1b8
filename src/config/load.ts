/** Reads the environment once, at start; a wrong value names the variable, what it got and what it takes. */
import * as v from 'valibot';
import { FerryError } from '../kernel/errors.ts';
import { type Config, EnvironmentSchema, VARIABLES, type VariableFacts, type VariableName } from './variables.ts';

export interface VariableInfo {
  readonly name: VariableName;
  readonly default: string;
  readonly unit: string;
  readonly takes: string;
  readonly description: string;
  readonly secret: boolean;
}

/** The variables with their facts, for `./ferry config` and the README's table. */
export function describeVariables(): VariableInfo[] {
  return Object.entries(VARIABLES).map(([name, schema]) => {
    const { unit = '', secret = false, takes, description } = v.getMetadata(schema) as unknown as VariableFacts;
    return { name: name as VariableName, default: v.getDefault(schema) ?? '', unit, takes, description, secret };
  });
}

/** Throws CONFIG_INVALID with one line for each wrong variable. An empty value counts as unset. */
export function loadConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const given = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value !== ''),
  );
  const result = v.safeParse(EnvironmentSchema, given);
  if (result.success) return result.output;
  const wrong = new Set(result.issues.map((issue) => v.getDotPath(issue)));
  const infos = describeVariables().filter(({ name }) => wrong.has(name));
  const lines = infos.map(({ name, takes, secret }) => {
    const got = secret ? 'a value that is not shown' : JSON.stringify(environment[name]);
    return `${name} is ${got}; it takes ${takes}`;
  });
  throw new FerryError('CONFIG_INVALID', lines.join('\n'), { details: { variable: infos[0]?.name ?? '' } });
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
