/**
 * A saga as data: named steps, each with the command that does it, the replies to that, and how it is undone. Typed end to end by the
 * map of payloads; checked when it is made. Source of the idea: H. Garcia-Molina, K. Salem, "Sagas", SIGMOD 1987; of the pivot:
 * C. Richardson, "Microservices Patterns", 2018, chapter 4.
 */
import { createHash } from 'node:crypto';
import type { EventPayloads } from '../events/generated/payloads.ts';
import { canonicalJson } from '../kernel/exact-json.ts';

/**
 * What a reply of one type means. `done` may take something of the reply into the saga's data; `refused` says why, in words that may
 * stand in the history and be shown to operators.
 */
export type ReplyRule<Reply, Data> =
  | { readonly outcome: 'done'; readonly merge?: (reply: Reply, data: Data) => Partial<Data> }
  | { readonly outcome: 'refused'; readonly reason: (reply: Reply) => string };

/** Rules by the full name of the reply's event type; other events that carry the saga's headers are passed over. */
export type ReplyRules<Data, M extends object> = { readonly [T in keyof M]?: ReplyRule<M[T], Data> };

/** What is asked of a participant: an event through the outbox, keyed by the saga's key, and the replies that may come. */
export type SagaCommand<Data, M extends object = EventPayloads> = {
  readonly [T in keyof M & string]: {
    /** Chooses the topic. */
    readonly aggregateType: string;
    readonly type: T;
    readonly payload: (data: Data) => M[T];
    readonly replies: ReplyRules<Data, M>;
  };
}[keyof M & string];

export interface RetryPolicy {
  /** How often a command is sent before its outcome counts as unknown (or the step as stuck, or the undo as failed). */
  readonly maxTries: number;
  /** Pause before the second try, after the time-out of the first; it doubles with each. */
  readonly baseMs: number;
  readonly maxMs: number;
}

export interface SagaStep<Data, M extends object = EventPayloads> {
  readonly name: string;
  /** Null: done before the saga begins; the saga only undoes it. */
  readonly command: SagaCommand<Data, M> | null;
  /** Undoes the step, whether it happened or not (docs/SAGAS.md); null: there is nothing to undo. */
  readonly compensation: SagaCommand<Data, M> | null;
  /** How long a reply is waited for, at each try. */
  readonly timeoutMs: number;
  readonly retry: RetryPolicy;
  /** After this step is done, the saga only goes forward. At most one step. */
  readonly pivot?: boolean;
}

export interface SagaSpec<Data, M extends object = EventPayloads> {
  readonly name: string;
  /** Another one for every change of structure: running instances go on with the version that they started with. */
  readonly version: number;
  readonly steps: ReadonlyArray<SagaStep<Data, M>>;
}

/** The saga's data as the machinery sees it: a JSON object. Who defines the saga answers for its type. */
export type SagaData = Readonly<Record<string, unknown>>;

/** A definition that was checked, with its types forgotten but for the data that an instance starts with. */
export interface Saga<Data = never> {
  readonly name: string;
  readonly version: number;
  readonly steps: ReadonlyArray<AnyStep>;
  /** Of the structure: steps in their order, commands, reply types and their outcomes, pivot. Not of time-outs and retries, nor of code. */
  readonly checksum: string;
  /** Never set: it carries the type of the data. */
  readonly startsWith?: (data: Data) => void;
}

export type AnyReplyRule = ReplyRule<unknown, SagaData>;

/** A command as the machinery sees it. */
export interface AnyCommand {
  readonly aggregateType: string;
  readonly type: string;
  readonly payload: (data: SagaData) => unknown;
  readonly replies: Readonly<Record<string, AnyReplyRule | undefined>>;
}

export interface AnyStep extends Omit<SagaStep<SagaData>, 'command' | 'compensation'> {
  readonly command: AnyCommand | null;
  readonly compensation: AnyCommand | null;
}

/**
 * Checks a definition and gives it its checksum. `Data` is the saga's data, plain JSON; `M` maps event types to payloads, those of
 * Ferry's schemas by default. Throws a RangeError or TypeError that names the step: a definition is code, so that is a bug.
 */
export function defineSaga<Data extends object, M extends object = EventPayloads>(spec: SagaSpec<Data, M>): Saga<Data> {
  // The one place where the types are forgotten: from here on, a command is only ever called with its own saga's data.
  const steps = spec.steps as unknown as ReadonlyArray<AnyStep>;
  checkSpec(spec.name, spec.version, steps);
  return { name: spec.name, version: spec.version, steps, checksum: checksumOf(steps) };
}

const NAME = /^[a-z][a-z0-9-]{0,62}$/;

function checkSpec(name: string, version: number, steps: ReadonlyArray<AnyStep>): void {
  if (!NAME.test(name)) throw new TypeError(`saga ${JSON.stringify(name)}: a name is lower case letters, digits and -`);
  if (!Number.isInteger(version) || version < 1) throw new RangeError(`saga ${name}: versions are 1, 2, 3, …`);
  const names = new Set(steps.map((step) => step.name));
  if (names.size !== steps.length) throw new TypeError(`saga ${name} has two steps of the same name`);
  if (!steps.some(({ command }) => command !== null)) throw new TypeError(`saga ${name} has no step to do`);
  for (const step of steps) checkStep(`saga ${name}, step ${step.name}`, step);
  checkPivot(name, steps);
}

function checkStep(what: string, step: AnyStep): void {
  if (!NAME.test(step.name)) throw new TypeError(`${what}: a name is lower case letters, digits and -`);
  const { maxTries, baseMs, maxMs } = step.retry;
  if (!Number.isInteger(maxTries) || maxTries < 1) throw new RangeError(`${what}: maxTries is 1 or more`);
  if (!(baseMs >= 1) || !(maxMs >= baseMs)) throw new RangeError(`${what}: 1 ≤ baseMs ≤ maxMs is needed`);
  if (!(step.timeoutMs >= 1)) throw new RangeError(`${what}: timeoutMs is 1 or more`);
  for (const command of [step.command, step.compensation]) {
    if (command === null) continue;
    const outcomes = Object.values(command.replies).map((rule) => rule?.outcome);
    if (!outcomes.includes('done')) throw new TypeError(`${what}: no reply to ${command.type} means that it is done`);
  }
}

function checkPivot(name: string, steps: ReadonlyArray<AnyStep>): void {
  const pivots = steps.filter(({ pivot }) => pivot === true);
  if (pivots.length > 1) throw new TypeError(`saga ${name} has ${pivots.length} pivots; it takes one at most`);
  for (const step of steps.slice(pivotIndex(steps))) {
    if (step.compensation !== null || step.command === null) {
      throw new TypeError(
        `saga ${name}, step ${step.name}: from the pivot on a step has a command and no compensation`,
      );
    }
  }
}

/** Where the pivot stands; the number of steps if there is none. */
export function pivotIndex(steps: ReadonlyArray<AnyStep>): number {
  const index = steps.findIndex(({ pivot }) => pivot === true);
  return index < 0 ? steps.length : index;
}

function checksumOf(steps: ReadonlyArray<AnyStep>): string {
  const structure = steps.map(({ name, command, compensation, pivot }) => ({
    name,
    command: structureOf(command),
    compensation: structureOf(compensation),
    pivot: pivot === true,
  }));
  return createHash('sha256').update(canonicalJson(structure)).digest('hex');
}

function structureOf(command: AnyCommand | null): unknown {
  if (command === null) return null;
  const replies = Object.entries(command.replies).map(([type, rule]) => [type, rule?.outcome] as const);
  return { aggregateType: command.aggregateType, type: command.type, replies: Object.fromEntries(replies) };
}

/** Every event type that may be a reply to one of these sagas' commands: what the orchestrator's consumer group has handlers for. */
export function replyTypes(sagas: ReadonlyArray<Saga>): string[] {
  const commands = sagas.flatMap(({ steps }) => steps.flatMap(({ command, compensation }) => [command, compensation]));
  return [...new Set(commands.flatMap((command) => Object.keys(command?.replies ?? {})))].sort();
}
