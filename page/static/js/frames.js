/**
 * Paints at most once per animation frame, however often it is asked, and slow things less
 * often: `Paced` keeps what it runs to a share of the main thread.
 */

export class Frames {
  /** @param {() => void} paint */
  constructor(paint) {
    this.#paint = paint;
  }

  #paint;
  #asked = false;
  /** Frames painted so far. */
  painted = 0;

  /** Paint in the next frame. */
  ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.painted += 1;
      this.#paint();
    });
  }
}

export class Paced {
  /**
   * @param {() => unknown} run
   * @param {number} leastMs  between two starts
   */
  constructor(run, leastMs) {
    this.#run = run;
    this.#leastMs = leastMs;
  }

  #run;
  #leastMs;
  #notBefore = 0;
  #timer = 0;

  /** Run now or as soon as it may; further calls until then are one. */
  ask() {
    if (this.#timer) return;
    const wait = this.#notBefore - performance.now();
    if (wait <= 0) this.#now();
    else this.#timer = setTimeout(() => this.#now(), wait);
  }

  /** Forget what was asked. */
  cancel() {
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  #now() {
    this.#timer = 0;
    const begin = performance.now();
    this.#run();
    const end = performance.now();
    // A run that took long is followed by twice that time for everything else.
    this.#notBefore = Math.max(begin + this.#leastMs, end + 2 * (end - begin));
  }
}
