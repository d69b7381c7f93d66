/**
 * One subscription to the server, which heals.
 *
 * Contract: `onSnapshot` comes first and again after every reconnect, also when another
 * server answers; what was known before is void then. `onRows` gets all that follows. A
 * connection on which nothing was heard for `SILENCE_MS` is given up and opened anew; so ask
 * for the kind health too, of which there is a row every second. While the page is hidden there is no connection: a browser does not paint
 * then, and lets only six connections to one server be open over all its tabs.
 *
 * @typedef {import("./types.js").Row} Row
 * @typedef {import("./types.js").Snapshot} Snapshot
 * @typedef {"connecting" | "live" | "reconnecting" | "paused"} Condition
 *
 * @typedef {object} Listener
 * @property {(snapshot: Snapshot) => void} onSnapshot
 * @property {(rows: Row[]) => void} onRows
 * @property {(condition: Condition) => void} onCondition
 */

const SILENCE_MS = 12_000;
const HIDDEN_MS = 10_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;

export class Stream {
  /**
   * Opens at once.
   *
   * @param {Record<string, string>} query  of `/stream`
   * @param {Listener} listener
   */
  constructor(query, listener) {
    this.#url = `stream?${new URLSearchParams(query)}`;
    this.#listener = listener;
    document.addEventListener("visibilitychange", this.#visibility);
    this.#open();
    if (document.hidden) this.#visibility();
  }

  #url;
  #listener;
  /** @type {EventSource | null} */
  #source = null;
  #heard = false;
  #retryMs = FIRST_RETRY_MS;
  #retry = 0;
  #watch = 0;
  #hide = 0;

  /** For good; nothing is called any more. */
  close() {
    document.removeEventListener("visibilitychange", this.#visibility);
    this.#listener = { onSnapshot() {}, onRows() {}, onCondition() {} };
    this.#shut();
    clearTimeout(this.#hide);
  }

  #open() {
    this.#shut();
    this.#listener.onCondition(this.#heard ? "reconnecting" : "connecting");
    const source = new EventSource(this.#url);
    this.#source = source;
    source.addEventListener("snapshot", (event) => {
      this.#heard = true;
      this.#retryMs = FIRST_RETRY_MS;
      this.#alive();
      this.#listener.onSnapshot(JSON.parse(event.data));
      this.#listener.onCondition("live");
    });
    source.addEventListener("rows", (event) => {
      this.#alive();
      this.#listener.onRows(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      this.#listener.onCondition(this.#heard ? "reconnecting" : "connecting");
      // The browser tries again by itself, but not after an answer that is no stream.
      if (source.readyState === EventSource.CLOSED) this.#openLater();
    });
    this.#alive();
  }

  #alive() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#open(), SILENCE_MS);
  }

  #openLater() {
    this.#shut();
    this.#retry = setTimeout(() => this.#open(), this.#retryMs);
    this.#retryMs = Math.min(LAST_RETRY_MS, this.#retryMs * 2);
  }

  #shut() {
    clearTimeout(this.#retry);
    clearTimeout(this.#watch);
    this.#source?.close();
    this.#source = null;
  }

  #visibility = () => {
    clearTimeout(this.#hide);
    if (!document.hidden) {
      if (!this.#source) this.#open();
      return;
    }
    this.#hide = setTimeout(() => {
      this.#shut();
      this.#listener.onCondition("paused");
    }, HIDDEN_MS);
  };
}
