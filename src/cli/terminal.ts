/** What commands print: results on standard output, progress and complaints on standard error. */
import { stripVTControlCharacters, styleText } from 'node:util';
import type { Ora } from 'ora';

export interface Terminal {
  /** A line of the result. */
  print(line?: string): void;
  /** One line of JSON, for scripts. */
  printJson(value: unknown): void;
  /** A line of progress. */
  note(line: string): void;
  /** Shows `what` while `work` runs, and how it ended; `update` changes what is shown. */
  step<T>(what: string, work: (update: (what: string) => void) => Promise<T>): Promise<T>;
}

/** `quiet` leaves progress out, for `--json`. */
export function createTerminal(quiet = false): Terminal {
  const note = (line: string) => {
    if (!quiet) process.stderr.write(`${line}\n`);
  };
  return {
    print: (line = '') => void process.stdout.write(`${line}\n`),
    printJson: (value) => void process.stdout.write(`${JSON.stringify(value, bigintAsText)}\n`),
    note,
    step: async (what, work) => {
      if (quiet) return work(() => {});
      const started = performance.now();
      const spinner = process.stderr.isTTY ? await startSpinner(what) : undefined;
      let shown = what;
      const update = (text: string) => {
        shown = text;
        if (spinner !== undefined) spinner.text = text;
      };
      try {
        const result = await work(update);
        const line = `${shown} ${dim(`(${seconds(performance.now() - started)})`)}`;
        if (spinner === undefined) note(`✔ ${line}`);
        else spinner.succeed(line);
        return result;
      } catch (error) {
        if (spinner === undefined) note(`✖ ${shown}`);
        else spinner.fail(shown);
        throw error;
      }
    },
  };
}

/** Loaded only here: most processes have no terminal. */
async function startSpinner(text: string): Promise<Ora> {
  const { default: ora } = await import('ora');
  return ora({ text, stream: process.stderr }).start();
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

// styleText looks at standard output: no colours in a pipe, and NO_COLOR is honoured
export const bold = (text: string) => styleText('bold', text);
export const dim = (text: string) => styleText('dim', text);
export const green = (text: string) => styleText('green', text);
export const red = (text: string) => styleText('red', text);
export const cyan = (text: string) => styleText('cyan', text);

/** Columns aligned, two spaces apart and indented by two; what is not as wide as its column is padded, colours not counted. */
export function plainTable(rows: ReadonlyArray<readonly string[]>, head?: readonly string[]): string {
  const all = head === undefined ? rows : [head.map(bold), ...rows];
  const widths: number[] = [];
  for (const row of all) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, width(cell));
  }
  const line = (row: readonly string[]) =>
    row.map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - width(cell))).join('  ');
  return all.map((row) => `  ${line(row)}`.trimEnd()).join('\n');
}

/** Words of participants and operators may hold anything, also what a terminal would obey. */
export function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, ' ');
}

function width(text: string): number {
  return stripVTControlCharacters(text).length;
}
