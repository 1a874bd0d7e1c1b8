/** Wakes everybody who waits: for several workers that look again at what they share. */
export class Broadcast {
  #waiting = new Set<() => void>();

  /** Resolves at the next `wake`, or after `timeoutMs` (null: no time-out). Look at the condition first, then wait, without an await between. */
  wait(timeoutMs: number | null): Promise<void> {
    return new Promise((resolve) => {
      const timer = timeoutMs === null ? undefined : setTimeout(() => done(), timeoutMs);
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      this.#waiting.add(done);
    });
  }

  wake(): void {
    for (const done of [...this.#waiting]) done();
  }
}
