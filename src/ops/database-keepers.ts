/** What looks after one database: the sealer of its audit, and the retention of its outbox and of its sagas. Put together here. */
import { AuditSealer } from '../audit/sealer.ts';
import type { DatabaseConfig, DatabaseName } from '../config/databases.ts';
import { armFailPoint } from '../kernel/fail-point.ts';
import type { Poller } from '../kernel/poller.ts';
import type { Pool } from '../postgres/connection.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { RetentionKeeper } from './retention-keeper.ts';
import { SagaRetention } from './saga-retention.ts';

export interface DatabaseKeeperParts {
  readonly database: DatabaseName;
  readonly config: DatabaseConfig;
  readonly pool: Pool;
  /** The database with the store of dead letters. */
  readonly deadLetters: Pool;
  readonly telemetry: Telemetry;
}

/** Not started; each can be stopped. */
export function databaseKeepers(parts: DatabaseKeeperParts): readonly Poller[] {
  const { database, config, pool, deadLetters, telemetry } = parts;
  const metrics = telemetry.metricsWith({ database });
  const logger = (part: string) => telemetry.logger.child({ part, database });
  const failPoint = armFailPoint(config.FERRY_FAIL_POINT);
  return [
    new AuditSealer({ db: pool, logger: logger('audit-sealer'), metrics }),
    new RetentionKeeper({ settings: config, deadLetters, failPoint, logger: logger('retention'), metrics }),
    new SagaRetention({ pool, settings: config, logger: logger('saga-retention'), metrics }),
  ];
}
