/**
 * Wakes one waiter. A notification that comes while nobody waits is remembered once, so that none is missed between looking at a
 * condition and waiting for it to change.
 */
export class Signal {
  #pending = false;
  #wake: (() => void) | null = null;

  notify(): void {
    if (this.#pending) return; // called for every event: only the first one since the last wait has anything to do
    this.#pending = true;
    this.#wake?.();
  }

  /** Resolves at the next notification, or at once if there was one since the last wait. Only one waiter at a time. */
  async wait(): Promise<void> {
    if (this.#wake !== null) throw new Error('a signal has one waiter');
    if (!this.#pending) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
    this.#pending = false;
  }
}
