/**
 * Which offset of a partition may be committed while its records are finished in any order: the lowest one that is unfinished. Whatever
 * crashes, nothing below a committed offset is still to be done.
 */
export class OffsetTracker {
  /** Unfinished and finished offsets alike, ascending, from `#head` on; what lies before is done with. */
  #offsets: bigint[] = [];
  #head = 0;
  readonly #finished = new Set<bigint>();
  #next: bigint | null = null;

  /** A record was taken up. Offsets only grow; they need not be consecutive. Throws a RangeError otherwise. */
  add(offset: bigint): void {
    if (this.#next !== null && offset < this.#next) throw new RangeError(`offset ${offset} comes after ${this.#next}`);
    this.#offsets.push(offset);
    this.#next = offset + 1n;
  }

  /** A record is done with. Throws a RangeError for one that was not added, or is finished already. */
  finish(offset: bigint): void {
    if (!this.#isOpen(offset)) throw new RangeError(`offset ${offset} is not open`);
    this.#finished.add(offset);
    for (let head = this.#offsets[this.#head]; head !== undefined && this.#finished.delete(head); ) {
      this.#head += 1;
      head = this.#offsets[this.#head];
    }
    if (this.#head > 1_024 && this.#head * 2 > this.#offsets.length) {
      this.#offsets = this.#offsets.slice(this.#head); // now and then, so that finishing stays cheap
      this.#head = 0;
    }
  }

  /** What to commit: the lowest unfinished offset, or the one behind the last record; null before the first. */
  get committable(): bigint | null {
    return this.#offsets[this.#head] ?? this.#next;
  }

  /** Records from the lowest unfinished one on, finished or not: what a crash would bring again. */
  get span(): number {
    return this.#offsets.length - this.#head;
  }

  #isOpen(offset: bigint): boolean {
    if (this.#finished.has(offset)) return false;
    let low = this.#head;
    let high = this.#offsets.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const found = this.#offsets[middle];
      if (found === undefined || found === offset) return found === offset;
      if (found < offset) low = middle + 1;
      else high = middle - 1;
    }
    return false;
  }
}
