/** Pieces of work of which each is done whether or not others fail; what failed is told once, at the end. */
import { coerceError } from './errors.ts';

export class Failures {
  #first: Error | null = null;
  #further = 0;

  /** Resolves with null if the work fails: `what` could not be done. */
  async during<T>(what: string, work: () => Promise<T>): Promise<T | null> {
    try {
      return await work();
    } catch (thrown) {
      this.add(what, thrown);
      return null;
    }
  }

  add(what: string, thrown: unknown): void {
    if (this.#first === null) this.#first = new Error(what, { cause: coerceError(thrown) });
    else this.#further += 1;
  }

  /** Throws the first failure, and says how many there are beside it. */
  throwIfAny(): void {
    if (this.#first === null) return;
    if (this.#further > 0) this.#first.message += ` (and ${this.#further} further failures)`;
    throw this.#first;
  }
}
