/** Configuration: defaults that hold, errors that name the variable, and no secret in any message. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { describeVariables, loadConfig, maskValue, parsePairs } from '../../../src/config/load.ts';
import { VARIABLES } from '../../../src/config/variables.ts';
import { FerryError } from '../../../src/kernel/errors.ts';

function refusal(environment: Record<string, string>): FerryError {
  try {
    loadConfig(environment);
  } catch (error) {
    assert.ok(error instanceof FerryError);
    return error;
  }
  throw new assert.AssertionError({ message: 'it was accepted' });
}

describe('loadConfig', () => {
  test('without an environment every setting has its default', () => {
    const config = loadConfig({});
    for (const { name, default: fallback } of describeVariables()) {
      assert.equal(String(config[name] ?? ''), fallback, name);
    }
    assert.equal(config.DATABASE_URL, undefined);
  });

  test('text becomes numbers; an empty value counts as unset; other variables are none of ours', () => {
    const config = loadConfig({ HTTP_PORT: '9090', RELAY_NAME: '', PATH: '/bin' });
    assert.equal(config.HTTP_PORT, 9090);
    assert.equal(config.RELAY_NAME, 'main');
    assert.ok(!('PATH' in config));
  });

  test('a wrong value is named with what it got and what it takes', () => {
    const error = refusal({ HTTP_PORT: 'eighty' });
    assert.equal(error.code, 'CONFIG_INVALID');
    assert.match(error.message, /HTTP_PORT is "eighty"; it takes a whole number from 0 to 65535/);
    assert.deepEqual(error.details, { variable: 'HTTP_PORT' });
    assert.match(refusal({ LOG_LEVEL: 'loud' }).message, /one of trace, debug, info/);
  });

  test('numbers out of range and broken ones are refused', () => {
    for (const value of ['-1', '65536', '1.5', '0x', 'NaN', '1e3', 'true', '80.0']) {
      assert.match(refusal({ HTTP_PORT: value }).message, /HTTP_PORT/, value);
    }
  });

  test('all wrong values are told at once', () => {
    const { message } = refusal({ HTTP_PORT: 'x', LOG_LEVEL: 'y', RELAY_BATCH_MAX_EVENTS: '0' });
    assert.equal(message.split('\n').length, 3);
  });
});

describe('describeVariables', () => {
  test('every variable says what it is for', () => {
    for (const { name, description } of describeVariables()) assert.ok(description.length > 10, name);
    assert.equal(describeVariables().length, Object.keys(VARIABLES).length);
  });

  test('limits in a name with a unit have the unit', () => {
    for (const { name, unit } of describeVariables()) {
      if (name.endsWith('_MS')) assert.equal(unit, 'ms', name);
      if (name.endsWith('_BYTES')) assert.equal(unit, 'bytes', name);
    }
  });
});

describe('maskValue', () => {
  const info = (name: string) => {
    const found = describeVariables().find((variable) => variable.name === name);
    assert.ok(found);
    return found;
  };

  test('an address keeps all but its password, a secret nothing', () => {
    const shown = maskValue(info('DATABASE_URL'), 'postgres://ferry:hunter2@db:5432/shop?sslmode=verify-full');
    assert.equal(shown, 'postgres://ferry:***@db:5432/shop?sslmode=verify-full');
    assert.equal(maskValue(info('IDEMPOTENCY_KEY_SECRET'), 'hunter2'), '***');
    assert.equal(maskValue(info('IDEMPOTENCY_KEY_SECRET'), undefined), '');
    assert.equal(maskValue(info('HTTP_PORT'), 8080), '8080');
  });

  test('a password that stands in another variable by mistake is not told by an error', () => {
    for (const { name, secret } of describeVariables()) {
      if (secret) assert.doesNotMatch(refusalMessage(name), /hunter2/);
    }
  });

  function refusalMessage(name: string): string {
    try {
      loadConfig({ [name]: 'hunter2', HTTP_PORT: 'x' });
    } catch (error) {
      return String(error);
    }
    return '';
  }
});

describe('parsePairs', () => {
  test('pairs may have blanks around them and a comma at the end', () => {
    assert.deepEqual(
      [...parsePairs('TOPIC_ROUTES', ' a=x , b=y.z,')],
      [
        ['a', 'x'],
        ['b', 'y.z'],
      ],
    );
    assert.equal(parsePairs('TOPIC_ROUTES', '').size, 0);
  });

  test('what is no pair is refused by the variable’s name', () => {
    for (const value of ['a', 'a=', '=b', 'a=b=c']) {
      assert.throws(() => parsePairs('TOPIC_ROUTES', value), /TOPIC_ROUTES has .*key=value/, value);
    }
  });
});
