/** `./ferry config`: every variable, its value, default, unit and meaning; secrets masked. */
import { describeVariables, maskValue } from '../config/load.ts';
import { type Session, sessionConfig } from './session.ts';
import { bold, dim, plainTable } from './terminal.ts';

export async function runConfig(session: Session): Promise<void> {
  const config = sessionConfig(session);
  const rows = describeVariables().map((info) => ({
    name: info.name,
    value: maskValue(info, config[info.name]),
    set: (session.environment[info.name] ?? '') !== '',
    default: info.default,
    unit: info.unit,
    takes: info.takes,
    description: info.description,
  }));
  if (session.json) {
    session.terminal.printJson(rows);
    return;
  }
  for (const row of rows) {
    const value = row.value === '' ? dim('(unset)') : `${row.value}${row.unit === '' ? '' : ` ${row.unit}`}`;
    session.terminal.print(`${bold(row.name)} = ${value}${row.set ? '' : dim('  default')}`);
    session.terminal.print(plainTable([[dim(row.description)], [dim(`takes ${row.takes}`)]]));
  }
}
