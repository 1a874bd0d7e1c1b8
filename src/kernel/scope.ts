/**
 * A scope owns what was acquired in it. Acquiring pushes the release; closing runs the releases last-in first-out, all of them even
 * if one throws, and closing twice is safe.
 */
export class Scope {
  readonly #releases: Array<{ what: string; release: () => unknown }> = [];
  #closing: Promise<void> | undefined;

  /** Registers how to give `what` back. On a closed scope it is given back at once, and this throws: whoever acquired it came too late. */
  defer(what: string, release: () => unknown): void {
    if (this.#closing !== undefined) {
      Promise.try(release).catch(() => {});
      throw new Error(`${what} was acquired after its scope was closed`);
    }
    this.#releases.push({ what, release });
  }

  /** Releases everything; rejects with an AggregateError after all releases ran if any of them failed. */
  close(): Promise<void> {
    this.#closing ??= this.#run();
    return this.#closing;
  }

  async #run(): Promise<void> {
    const failures: Error[] = [];
    for (const { what, release } of this.#releases.reverse()) {
      try {
        await release();
      } catch (cause) {
        failures.push(new Error(`releasing ${what} failed`, { cause }));
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, failures.map((f) => f.message).join('; '));
  }
}
