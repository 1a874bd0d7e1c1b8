/** What `up` and `demo` do around the parts: bring databases and registry to this version, and make a key to use the API with. */
import { writeFileSync } from 'node:fs';
import { databaseOf, databasesOf } from '../config/databases.ts';
import { loadConfig } from '../config/load.ts';
import { hashApiKey } from '../domain/access/api-key.ts';
import { findStock, receiveStock } from '../domain/inventory/repository.ts';
import { createPool } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import { migrateDatabases } from './migrate-command.ts';
import { pushAllSchemas } from './schemas-command.ts';
import type { Environment, Session } from './session.ts';
import { bold, cyan, dim, plainTable } from './terminal.ts';

export async function prepareParts(environment: Environment): Promise<void> {
  const config = loadConfig(environment);
  await Promise.all([migrateDatabases(config), pushAllSchemas(config)]);
}

/** A key with every role, kept in the home; made again for a database that does not know it. Returns it. */
export async function ensureDevelopmentKey(session: Session, environment: Environment): Promise<string> {
  const key = `ferry_${session.home.secret('development-key')}`;
  const pool = createPool(loadConfig(environment), 'ferry-cli', { max: 1 });
  try {
    await pool.query(
      `insert into ferry.api_key (name, role, key_hash) values ('development', 'admin', $1) on conflict (key_hash) do nothing`,
      [hashApiKey(key)],
    );
  } finally {
    await pool.end();
  }
  return key;
}

/** The article that the printed lines order, so that the order is fulfilled; nothing if it is there already. */
export async function stockExampleArticle(environment: Environment): Promise<void> {
  const config = loadConfig(environment);
  const databases = databasesOf(config);
  const pool = createPool(databases.get(databaseOf(databases, 'inventory')) ?? config, 'ferry-cli', { max: 1 });
  try {
    await transaction(pool, async (tx) => {
      if ((await findStock(tx, EXAMPLE_ARTICLE)) === null) {
        await receiveStock(tx, [{ sku: EXAMPLE_ARTICLE, quantity: 1_000 }]);
      }
    });
  } finally {
    await pool.end();
  }
}

const EXAMPLE_ARTICLE = 'TEA-1';

/** Writes `dev.env` into the home: what a shell sources to speak to the API. */
export async function writeDevelopmentAccess(session: Session, environment: Environment): Promise<void> {
  const key = await ensureDevelopmentKey(session, environment);
  const { httpUrl = '' } = session.home.addresses();
  writeFileSync(session.home.path('dev.env'), `export FERRY_URL=${httpUrl}\nexport FERRY_KEY=${key}\n`, {
    mode: 0o600,
  });
}

/** Addresses, and three calls that work as typed. */
export function printAccess({ home, terminal }: Session): void {
  const { httpUrl = '', postgresUrl, kafkaBrokers, registryUrl } = home.addresses();
  const rows = [
    ['HTTP API', httpUrl],
    ['Postgres', postgresUrl?.replace(/:[^:@/]+@/, ':***@')],
    ['Kafka', kafkaBrokers],
    ['registry', registryUrl],
    ['logs', home.path('logs')],
  ];
  terminal.print();
  terminal.print(
    plainTable(rows.flatMap(([name, value]) => (value === undefined ? [] : [[bold(name ?? ''), cyan(value)]]))),
  );
  terminal.print();
  terminal.print(dim('# then, in another terminal:'));
  terminal.print(`source ${home.path('dev.env')}`);
  for (const line of CURL_LINES) terminal.print(line);
  terminal.print();
}

const AUTHORIZED = `curl -sS -H "Authorization: Bearer $FERRY_KEY"`;

const CURL_LINES = [
  `${AUTHORIZED} -X PUT $FERRY_URL/v1/customers/ada -H 'Content-Type: application/json' -d '{"creditLimit":"500.00","currency":"EUR"}'`,
  `${AUTHORIZED} -X POST $FERRY_URL/v1/orders -H 'Content-Type: application/json' -H "Idempotency-Key: order-$(date +%s)" -d '{"customerId":"ada","currency":"EUR","lines":[{"sku":"${EXAMPLE_ARTICLE}","quantity":2,"unitPrice":"4.50"}]}'`,
  `${AUTHORIZED} $FERRY_URL/v1/orders`,
];
