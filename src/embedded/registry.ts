/** The embedded schema registry: Apicurio, storing in a database of its own beside Ferry's, or in a file where Postgres is external. */
import { join } from 'node:path';
import type { Home } from './home.ts';
import { archiveArguments, type JavaParts } from './java-parts.ts';
import type { PartRecipe } from './part.ts';

/** The first compiler tier alone halves the start-up on two cores; the registry answers a few requests a minute afterwards. */
const JVM = ['-Xms64m', '-Xmx384m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:+ExitOnOutOfMemoryError'];

export interface RegistryStorage {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
}

/** The Confluent-compatible API, which is what Ferry speaks. */
export function registryUrl(port: number): string {
  return `http://127.0.0.1:${port}/apis/ccompat/v7`;
}

export function registryRecipe(
  home: Home,
  port: number,
  parts: JavaParts,
  storage: RegistryStorage | undefined,
): PartRecipe {
  return {
    name: 'registry',
    port,
    prepare: async () => {},
    command: () => ({
      home,
      command: parts.java,
      args: [
        ...JVM,
        ...archiveArguments(parts, 'registry'),
        '-jar',
        join(parts.registry, 'apicurio-registry-app-3.0.9-runner.jar'),
      ],
      env: {
        ...storageEnvironment(home, storage),
        QUARKUS_HTTP_HOST: '127.0.0.1',
        QUARKUS_HTTP_PORT: String(port),
        QUARKUS_LOG_LEVEL: 'WARN',
        QUARKUS_LOG_CONSOLE_FORMAT: '%d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1.} %s%e%n',
        QUARKUS_BANNER_ENABLED: 'false',
        QUARKUS_HTTP_ACCESS_LOG_ENABLED: 'false', // on by default, a line a request
      },
    }),
    probe: async () => {
      const answer = await fetch(`${registryUrl(port)}/subjects`, { signal: AbortSignal.timeout(2_000) });
      if (!answer.ok) throw new Error(`the registry answers ${answer.status}`);
    },
    readyTimeoutMs: 90_000,
    startAttempts: 1,
    stopSignals: [['SIGTERM', 10_000]],
  };
}

/** In the environment, not on the command line, where every user of the machine could read the password. */
function storageEnvironment(home: Home, storage: RegistryStorage | undefined): Record<string, string> {
  if (storage === undefined) {
    return {
      APICURIO_STORAGE_KIND: 'sql',
      APICURIO_STORAGE_SQL_KIND: 'h2',
      APICURIO_DATASOURCE_URL: `jdbc:h2:file:${home.path('registry', 'h2')}`,
    };
  }
  return {
    APICURIO_STORAGE_KIND: 'sql',
    APICURIO_STORAGE_SQL_KIND: 'postgresql',
    APICURIO_DATASOURCE_URL: `jdbc:postgresql://${storage.host}:${storage.port}/${storage.database}`,
    APICURIO_DATASOURCE_USERNAME: storage.user,
    APICURIO_DATASOURCE_PASSWORD: storage.password,
    // 20 idle connections by default, of which each fails one request after Postgres restarted
    APICURIO_DATASOURCE_JDBC_INITIAL_SIZE: '1',
    APICURIO_DATASOURCE_JDBC_MIN_SIZE: '1',
    APICURIO_DATASOURCE_JDBC_MAX_SIZE: '8',
  };
}
