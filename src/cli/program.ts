/** The command line: which commands there are, what they take, and what their exit codes mean. */
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { OWN_DATABASE_NAMES } from '../config/databases.ts';
import { DEAD_LETTER_STATES } from '../deadletter/states.ts';
import { ROLES } from '../domain/access/api-key.ts';
import { FERRY_VERSION } from '../kernel/version.ts';
import { REPLAY_STATES } from '../replay/states.ts';
import { INSTANCE_STATES } from '../saga/states.ts';
import type { AuditOptions } from './audit-command.ts';
import type { DlqOptions } from './dlq-command.ts';
import { EXIT, EXIT_HELP, exitCodeOf, failureText } from './exit-codes.ts';
import type { KeysOptions } from './keys-command.ts';
import type { MigrateOptions } from './migrate-command.ts';
import type { ReplayOptions } from './replay-command.ts';
import type { RetentionOptions } from './retention-command.ts';
import type { SagasOptions } from './sagas-command.ts';
import type { ServeOptions } from './serve-command.ts';
import type { StartService } from './service.ts';
import { type CommonOptions, type Environment, openSession, type Session } from './session.ts';

const DATABASE_NAMES = ['main', ...OWN_DATABASE_NAMES];

export interface CliDependencies {
  readonly environment: Environment;
  readonly startService: StartService;
}

/** Runs the command of `argv` (without node and script); resolves with the exit code, everything printed. */
export async function runCli(argv: readonly string[], dependencies: CliDependencies): Promise<number> {
  let exitCode: number = EXIT.fine;
  process.stdout.on('error', endOnBrokenPipe);
  const program = createProgram(dependencies, (code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.fine : EXIT.wrongUsage;
    const debug = ['debug', 'trace'].includes(dependencies.environment.LOG_LEVEL ?? '');
    process.stderr.write(`${failureText(error, debug)}\n`);
    return exitCodeOf(error);
  }
}

/** What a command does; a number that it resolves with is the exit code. */
type Run<O> = (session: Session, options: O, args: readonly string[]) => Promise<unknown>;

function createProgram({ environment, startService }: CliDependencies, exit: (code: number) => void): Command {
  const program = new Command('ferry')
    .description('Carries every committed event from Postgres to Kafka, exactly once, and proves it.')
    .version(FERRY_VERSION)
    .addHelpText('after', `\n${EXIT_HELP}\n`)
    .showHelpAfterError('(--help shows what it takes)')
    .exitOverride();

  /** A command that works on a home. Its module is loaded when it runs: no command pays for the others' libraries at its start. */
  const command = <O extends CommonOptions>(usage: string, description: string, load: () => Promise<Run<O>>): Command =>
    program
      .command(usage)
      .description(description)
      .option('--home <dir>', 'home of the stack to speak to (FERRY_HOME)')
      .addHelpText('after', `\n${EXIT_HELP}`)
      .action(async (...given: unknown[]) => {
        const self = given.at(-1) as Command;
        const options = self.opts<O>();
        const run = await load();
        const result = await run(openSession(environment, options), options, self.args);
        exit(typeof result === 'number' ? result : EXIT.fine);
      });
  addStackCommands(command, startService);
  addEventCommands(command);
  addSagaCommand(command);
  addReplayCommand(command);
  addAuditCommands(command);
  command('test', 'run the checks and suites, or one suite: unit, integration, chaos', async () => {
    return (await import('./test-command.ts')).runTests;
  }).argument('[suite-and-files...]', 'suites, and texts that file paths must have in them');
  return program;
}

type AddCommand = <O extends CommonOptions>(usage: string, description: string, load: () => Promise<Run<O>>) => Command;

function json(target: Command): Command {
  return target.option('--json', 'print JSON, for scripts');
}

/** What starts, stops and shows a stack. */
function addStackCommands(command: AddCommand, startService: StartService): void {
  json(
    command('demo', 'place orders, kill every process, prove that nothing is lost, repeated or half done', async () => {
      return (await import('./demo/demo-command.ts')).runDemo;
    }),
  )
    .addOption(new Option('--orders <n>', 'orders to place').default(2_000).argParser(wholeNumber(1, 1_000_000)))
    .addOption(new Option('--kill-relay <k>', 'times to SIGKILL the relay').default(3).argParser(wholeNumber(0, 100)))
    .addOption(
      new Option('--kill-others <k>', 'times to SIGKILL each other process, and the payment provider')
        .default(1)
        .argParser(wholeNumber(0, 100)),
    )
    .addOption(
      new Option('--failure-rate <rate>', 'part of the orders that each step refuses, 0 to 1')
        .default(0.1)
        .argParser(share),
    )
    .addOption(databasesOption().default('one'))
    .option('--keep', 'leave everything running');
  json(
    command('bench', 'measure how many sagas a second, and how long each takes, with the proof of it', async () => {
      return (await import('./bench/bench-command.ts')).runBench;
    }),
  )
    .addArgument(new Argument('<what>', 'what to measure').choices(['sagas']))
    .addOption(new Option('--orders <n>', 'orders to place').default(2_000).argParser(wholeNumber(1, 1_000_000)))
    .addOption(new Option('--clients <c>', 'clients at the same time').default(16).argParser(wholeNumber(1, 1_000)))
    .addOption(
      new Option('--rate <r>', 'orders a second (default: as fast as they can)').argParser(wholeNumber(1, 100_000)),
    );
  command('up', 'start the embedded parts and the service', async () => (await import('./up-command.ts')).runUp)
    .option('--detach', 'return when all is up, leave it running')
    .option('--fresh', 'delete the data of this home first')
    .addOption(databasesOption());
  command('down', 'stop what `up` started', async () => (await import('./down-command.ts')).runDown);
  json(
    command('status', 'is each part reachable, and how far is each relay', async () => {
      return (await import('./status-command.ts')).runStatus;
    }),
  );
  command('serve', 'run the service until a signal', async () => {
    const { runServe } = await import('./serve-command.ts');
    return (session, options: ServeOptions) => runServe(session, options, startService);
  }).option('--roles <roles>', 'api, relay, ops, consumers, or some of each, separated by commas (FERRY_ROLES)');
  json(
    command('config', 'print every setting with its value and meaning', async () => {
      return (await import('./config-command.ts')).runConfig;
    }),
  );
  json(
    command<KeysOptions>(
      'keys',
      'make, list or revoke API keys',
      async () => (await import('./keys-command.ts')).runKeys,
    ),
  )
    .addArgument(new Argument('<action>', 'what to do').choices(['create', 'list', 'revoke']))
    .argument('[name-or-id]', 'name of the new key, or id of the one to revoke')
    .addOption(new Option('--role <role>', 'what it may do').choices(ROLES).default('writer'));
}

/** What works on the events, and on what they go through. */
function addEventCommands(command: AddCommand): void {
  json(
    command('tail', 'print events as they are committed to Kafka', async () => {
      return (await import('./tail-command.ts')).runTail;
    }),
  )
    .option('--topic <topic>', 'only this topic')
    .option('--from-beginning', 'begin with the oldest event');
  json(
    command<MigrateOptions>('migrate', 'bring each database to this version', async () => {
      return (await import('./migrate-command.ts')).runMigrate;
    }),
  ).addOption(new Option('--database <name>', 'only this one').choices(DATABASE_NAMES));
  json(
    command('schemas', 'check, push or list the event schemas', async () => {
      return (await import('./schemas-command.ts')).runSchemas;
    }),
  ).addArgument(new Argument('<action>', 'what to do').choices(['check', 'push', 'list']));
  json(
    command<DlqOptions>('dlq', 'dead letters: find, understand, mend, retry or discard them', async () => {
      return (await import('./dlq-command.ts')).runDlq;
    }),
  )
    .addArgument(
      new Argument('<action>', 'what to do').choices([
        ...['list', 'causes', 'show', 'retry', 'edit', 'discard', 'parked', 'release'],
      ]),
    )
    .argument('[id]', 'the dead letter: show, edit and discard need it; retry takes it, or options that narrow')
    .option('--type <type>', 'of these events')
    .option('--code <code>', 'of this error')
    .option('--topic <topic>', 'from this topic, or in this dead-letter topic (release: required)')
    .option('--key <key>', 'of this key, as `dlq parked` shows it (release: required)')
    .option('--group <group>', 'of this consumer group (release: this or --relay is required)')
    .option('--relay <name>', 'parked, release: what this relay has parked')
    .addOption(new Option('--state <state>', 'in this state').choices(DEAD_LETTER_STATES))
    .addOption(new Option('--failed-after <time>', 'RFC 3339, inclusive').argParser(pointInTime))
    .addOption(new Option('--failed-before <time>', 'RFC 3339, exclusive').argParser(pointInTime))
    .addOption(new Option('--limit <n>', 'list, retry: most letters').default(100).argParser(wholeNumber(1, 1_000)))
    .option('--whole', 'show: with personal data; it is audited, and takes --reason')
    .option('--payload <json>', 'edit: the whole payload, or @file; [redacted] in it stands for the original’s')
    .option('--discard', 'release: without the event that the key waits behind')
    .option('--reason <text>', 'why: it stands in ferry.audit (everything that changes something: required)');
  json(
    command('relay', 'begin a new epoch after a refusal, with the relay stopped', async () => {
      return (await import('./relay-command.ts')).runRelayReset;
    }),
  )
    .addArgument(new Argument('<action>', 'what to do').choices(['reset']))
    .addOption(new Option('--database <name>', 'whose relay').choices(DATABASE_NAMES).default('main'))
    .requiredOption('--reason <text>', 'why: it stands in ferry.relay_epoch');
}

/** Sagas, and what operators do about them. */
function addSagaCommand(command: AddCommand): void {
  json(
    command<SagasOptions>('sagas', 'list sagas, show one with its history, or act on one that waits', async () => {
      return (await import('./sagas-command.ts')).runSagas;
    }),
  )
    .addArgument(
      new Argument('<action>', 'what to do').choices(['list', 'show', 'retry', 'skip', 'compensate', 'cancel']),
    )
    .argument('[id]', 'the saga; all actions but list need it')
    .option('--name <name>', 'list: sagas of this definition')
    .addOption(new Option('--state <state>', 'list: sagas in this state').choices(INSTANCE_STATES))
    .option('--key <key>', 'list: what it is about, such as an order’s id')
    .option('--step <step>', 'list: sagas at this step')
    .addOption(new Option('--started-after <time>', 'list: RFC 3339').argParser(pointInTime))
    .addOption(new Option('--started-before <time>', 'list: RFC 3339').argParser(pointInTime))
    .addOption(new Option('--limit <n>', 'list: most to print').default(50).argParser(wholeNumber(1, 10_000)))
    .option('--offsets', 'show: find the records in Kafka too')
    .option('--reason <text>', 'why: it stands in the saga’s history and in ferry.audit (actions: required)');
}

/** What was done and written, where it is, and for how long it is kept. */
function addAuditCommands(command: AddCommand): void {
  json(
    command<AuditOptions>('audit', 'list who did what and why, or verify that nothing of it was changed', async () => {
      return (await import('./audit-command.ts')).runAudit;
    }),
  )
    .addArgument(new Argument('<action>', 'what to do').choices(['list', 'verify']))
    .addOption(new Option('--database <name>', 'whose audit').choices(DATABASE_NAMES).default('main'))
    .option('--principal <id>', 'list: who did it')
    .option('--action <action>', 'list: what was done; `saga.` finds all that begins so')
    .option('--subject <subject>', 'list: to what')
    .option('--event <id>', 'list: the event that tells of it')
    .addOption(new Option('--after <time>', 'list: RFC 3339').argParser(pointInTime))
    .addOption(new Option('--before <time>', 'list: RFC 3339').argParser(pointInTime))
    .addOption(new Option('--limit <n>', 'list: most to print').default(50).argParser(wholeNumber(1, 10_000)))
    .option('--head <hash>', 'verify: a head that was printed earlier, which must be in the chain');
  json(
    command('trace', 'follow one event: row, record, consumers, dead letters, replays, saga', async () => {
      return (await import('./trace-command.ts')).runTrace;
    }),
  ).argument('<event-id>', 'the event');
  json(
    command<RetentionOptions>('retention', 'drop the days of the outbox that nothing needs any more', async () => {
      return (await import('./retention-command.ts')).runRetentionCommand;
    }),
  )
    .addOption(new Option('--database <name>', 'whose outbox').choices(DATABASE_NAMES).default('main'))
    .option('--dry-run', 'only say what would be dropped, and why the rest is kept')
    .addOption(
      new Option('--days <n>', 'days that are kept (default: OUTBOX_RETENTION)').argParser(wholeNumber(1, 3_660)),
    );
}

/** Rows of the outbox once more. */
function addReplayCommand(command: AddCommand): void {
  json(
    command<ReplayOptions>(
      'replay',
      'publish rows of the outbox once more, or follow, stop, and go on with that',
      async () => {
        return (await import('./replay-command.ts')).runReplay;
      },
    ),
  )
    .addArgument(new Argument('<action>', 'what to do').choices(['start', 'list', 'show', 'pause', 'resume', 'cancel']))
    .argument('[id]', 'the replay; all actions but start and list need it')
    .addOption(new Option('--database <name>', 'whose outbox').choices(DATABASE_NAMES).default('main'))
    .option('--event-id <id...>', 'start: these events')
    .option('--aggregate-type <type>', 'start: events of this aggregatetype')
    .option('--aggregate-id <id>', 'start: events of this aggregate')
    .option('--type <type>', 'start: events of this type, by its full name')
    .addOption(new Option('--recorded-from <time>', 'start: written since, RFC 3339').argParser(pointInTime))
    .addOption(new Option('--recorded-to <time>', 'start: written before, RFC 3339').argParser(pointInTime))
    .option('--lsn-from <lsn>', 'start: inserted at this WAL position or later')
    .option('--lsn-to <lsn>', 'start: inserted before this WAL position')
    .addOption(
      new Option('--schema-version <id>', 'start: rows that pin this schema id, or whose bytes name it').argParser(
        wholeNumber(1, 2_147_483_647),
      ),
    )
    .option('--topic <topic>', 'start: to this side topic instead of where the events were')
    .option('--new-ids', 'start: under new event ids, so that consumers take them for new events')
    .addOption(
      new Option('--encode-with <id>', 'start: encode with the schema of this id').argParser(
        wholeNumber(1, 2_147_483_647),
      ),
    )
    .addOption(new Option('--rate <n>', 'start: events a second (default: 1,000)').argParser(wholeNumber(1, 100_000)))
    .option('--dry-run', 'start: only count, and tell who would see it')
    .option('--wait', 'start: show how far it is until it has ended')
    .addOption(new Option('--state <state>', 'list: replays in this state').choices(REPLAY_STATES))
    .addOption(new Option('--limit <n>', 'list: most to print').default(50).argParser(wholeNumber(1, 10_000)))
    .option('--reason <text>', 'why: it stands in ferry.audit and in the records (required where something is done)');
}

function databasesOption(): Option {
  return new Option(
    '--databases <layout>',
    'apart: payment, inventory and shipping have a database of their own',
  ).choices(['one', 'apart']);
}

/** Whoever read our output (`| head`) has seen enough. */
function endOnBrokenPipe(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(EXIT.fine);
  throw error;
}

function share(text: string): number {
  const value = Number(text);
  if (/^\d*\.?\d+$/.test(text) && value <= 1) return value;
  throw new InvalidArgumentError('It takes a number from 0 to 1.');
}

function wholeNumber(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= minimum && value <= maximum) return value;
    throw new InvalidArgumentError(`It takes a whole number from ${minimum} to ${maximum}.`);
  };
}

function pointInTime(text: string): string {
  const time = new Date(text);
  if (!Number.isNaN(time.getTime())) return time.toISOString();
  throw new InvalidArgumentError('It takes a time such as 2026-01-31T08:00:00Z.');
}
