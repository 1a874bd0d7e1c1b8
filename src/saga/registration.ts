/** Which definitions a process has, and the check at its start that they are those that the running instances started with. */
import { FerryError } from '../kernel/errors.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { Saga } from './definition.ts';

export class SagaCatalog {
  readonly all: ReadonlyArray<Saga>;
  readonly #byVersion: ReadonlyMap<string, Saga>;

  /** Throws a TypeError if a version is given twice. */
  constructor(sagas: ReadonlyArray<Saga>) {
    this.all = sagas;
    this.#byVersion = new Map(sagas.map((saga) => [versionOf(saga), saga]));
    if (this.#byVersion.size !== sagas.length) throw new TypeError('two sagas have the same name and version');
  }

  find(wanted: { readonly name: string; readonly version: number }): Saga | undefined {
    return this.#byVersion.get(versionOf(wanted));
  }

  /** Throws SAGA_DEFINITION_MISSING. */
  get(wanted: { readonly name: string; readonly version: number }): Saga {
    const saga = this.find(wanted);
    if (saga === undefined) throw missing(wanted.name, wanted.version);
    return saga;
  }
}

function versionOf({ name, version }: { readonly name: string; readonly version: number }): string {
  return `${name} ${version}`;
}

function missing(name: string, version: number): FerryError {
  return new FerryError('SAGA_DEFINITION_MISSING', `saga ${name} has no definition of version ${version} here`, {
    details: { saga: name, version },
  });
}

/**
 * Enters the definitions, in the caller's transaction. Throws SAGA_DEFINITION_CHANGED if a version was entered with another structure, and
 * SAGA_DEFINITION_MISSING if an instance is under way whose version is not among them.
 */
export async function registerSagas(tx: Queryable, { all }: SagaCatalog): Promise<void> {
  const values = [all.map(({ name }) => name), all.map(({ version }) => version), all.map(({ checksum }) => checksum)];
  await tx.query(
    `insert into ferry.saga_definition (name, version, checksum)
     select * from unnest($1::text[], $2::int[], $3::text[]) order by 1, 2 on conflict do nothing`,
    values,
  );
  const changed = await tx.query<{ name: string; version: number }>(
    `select name, version from ferry.saga_definition known
     join unnest($1::text[], $2::int[], $3::text[]) as given (name, version, checksum) using (name, version)
     where known.checksum <> given.checksum order by name, version limit 1`,
    values,
  );
  const [difference] = changed.rows;
  if (difference !== undefined) {
    const { name, version } = difference;
    const message = `saga ${name} differs from the version ${version} that was registered: its structure is another`;
    throw new FerryError('SAGA_DEFINITION_CHANGED', message, { details: { saga: name, version } });
  }
  const abandoned = await tx.query<{ name: string; version: number }>(
    `select name, version from ferry.saga where ended_at is null
       and (name, version) not in (select * from unnest($1::text[], $2::int[]))
     order by name, version limit 1`,
    values.slice(0, 2),
  );
  const [orphan] = abandoned.rows;
  if (orphan !== undefined) throw missing(orphan.name, orphan.version);
}
