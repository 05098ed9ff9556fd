// The rows of all sessions as they change: one stream a tab, closed while nobody looks at it.

const HIDDEN_MS = 30_000;
const STALE_MS = 2_000;
const SILENT_MS = 15_000;
const LONGEST_WAIT_MS = 10_000;
const HOUR_MINUTES = 60;
const MINUTE_MS = 60_000;

/** Names a row: two tenants may have sessions of one id. */
export const keyOf = (row) => `${row.tenantId}/${row.sessionId}`;

/**
 * A stream of events that is kept up: cut, it goes on where it was; silent for too long, it is cut.
 *
 * One a tab (a browser opens six connections to a host): whoever opens one closes the other. It is
 * closed while the tab has been hidden for a while. `staleSince` says since when what is shown may be
 * wrong. Tells of `change`, `fresh` and `lost`.
 */
export class Stream extends EventTarget {
  constructor() {
    super();
    this.source = null;
    this.staleSince = null;
    this.lastId = "";
    this.waitMs = 500;
    this.onVisible = () => this.followVisibility();
  }

  start() {
    document.addEventListener("visibilitychange", this.onVisible);
    this.connect();
  }

  close() {
    document.removeEventListener("visibilitychange", this.onVisible);
    this.disconnect();
    this.staleSince = null;
    this.waitMs = 500;
  }

  disconnect() {
    this.source?.close();
    this.source = null;
    for (const timer of ["retry", "staleTimer", "silence", "hiding"]) {
      clearTimeout(this[timer]);
      this[timer] = undefined;
    }
  }

  followVisibility() {
    clearTimeout(this.hiding);
    if (document.hidden) this.hiding = setTimeout(() => this.disconnect(), HIDDEN_MS);
    else if (!this.source) this.connect();
  }

  connect() {
    clearTimeout(this.retry);
    const source = new EventSource(this.address());
    this.source = source;
    for (const name of this.names) {
      // The browser's own `error` has no data.
      source.addEventListener(name, (event) => event.data !== undefined && this.hear(name, event));
    }
    source.onopen = () => this.opened();
    source.onerror = (event) => event.data === undefined && this.lost();
    this.listen();
  }

  /** It is there again, though nothing may have been said yet. */
  opened() {}

  /** Wait for something to come: where nothing does, the stream is cut without anybody's saying so. */
  listen() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lost(), SILENT_MS);
  }

  lost() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.silence);
    if (this.staleSince === null && this.staleTimer === undefined) {
      const since = Date.now();
      this.staleTimer = setTimeout(() => this.setStale(since), STALE_MS);
    }
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.connect(), this.waitMs * (0.75 + Math.random() / 2));
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
    this.dispatchEvent(new Event("lost"));
  }

  setStale(since) {
    this.staleSince = since;
    if (since === null) {
      clearTimeout(this.staleTimer);
      this.staleTimer = undefined;
    }
    this.dispatchEvent(new Event("fresh"));
  }

  hear(name, event) {
    this.listen();
    this.waitMs = 500;
    if (event.lastEventId) this.lastId = event.lastEventId;
    const changed = this.take(name, JSON.parse(event.data));
    if (changed !== false) this.current();
  }

  /** What is shown is as it is again. */
  current() {
    if (this.staleSince !== null || this.staleTimer !== undefined) this.setStale(null);
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * Follows the rows of all sessions, and tells of each change.
 *
 * What is shown is always whole: a new snapshot replaces the rows when its last page is there. Until
 * then the rows stay.
 */
export class Feed extends Stream {
  names = ["snapshot", "rows", "too_many", "nodes", "hour", "now"];

  /** @param {string} path `v1/feed`, or `ops/feed` for an operator */
  constructor(path) {
    super();
    this.path = path;
    /** @type {Map<string, any>} */
    this.rows = new Map();
    this.ready = false;
    /** Where there are too many rows to show: how many there are of each kind. */
    this.tooMany = null;
    /** Whether there are, without a filter. */
    this.crowded = false;
    this.nodes = [];
    /** One a minute, the oldest first: `{at, starts, ends: {reason: number}}`. */
    this.minutes = [];
    /** How much the gateway's clock is ahead of this one. */
    this.aheadMs = 0;
    /** When the gateway last gave its own count. */
    this.countedMs = 0;
    this.ended = new Map();
    this.filter = "";
  }

  /** The gateway's time, by which ages are counted. */
  now() {
    return Date.now() + this.aheadMs;
  }

  /** Follow the rows that match a filter, a query without its `?`. */
  open(filter) {
    if (this.source && filter === this.filter) return;
    this.close();
    if (filter !== this.filter) this.ready = false;
    if (filter !== this.filter || !this.ready) this.lastId = "";
    this.filter = filter;
    this.start();
  }

  address() {
    const query = new URLSearchParams(this.filter);
    if (this.lastId) query.set("since", this.lastId);
    this.pending = null;
    return `${this.path}?${query}`;
  }

  take(name, said) {
    if (name === "now") this.aheadMs = said.at - Date.now();
    if (name === "nodes") this.nodes = said.nodes ?? [];
    if (name === "hour") {
      this.countedMs = this.now();
      this.takeMinutes(said.minutes);
    }
    if (name === "too_many") {
      this.rows = new Map();
      this.tooMany = said;
      this.ready = true;
      if (!this.filter) this.crowded = true;
    }
    if (name === "rows") this.takeRows(said);
    return name !== "snapshot" || this.takePage(said);
  }

  /** Take a page of a snapshot; the last one makes it what is shown. */
  takePage(said) {
    if (said.first || !this.pending) this.pending = new Map();
    for (const row of said.rows) this.pending.set(keyOf(row), row);
    if (!said.last) return false;
    this.rows = this.pending;
    this.pending = this.tooMany = null;
    this.ready = true;
    if (!this.filter) this.crowded = false;
    return true;
  }

  takeRows(said) {
    for (const row of said.changed) {
      if (this.rows.get(keyOf(row))?.fence !== row.fence && this.now() - row.createdAt < MINUTE_MS) this.count(row.createdAt);
      this.rows.set(keyOf(row), row);
    }
    for (const row of said.left ?? []) this.rows.delete(keyOf(row));
    for (const end of said.gone) {
      const key = keyOf(end);
      const row = this.rows.get(key);
      this.count(end.at, /^\w+/.exec(end.reason)?.[0] ?? "unknown");
      // A later session of the same id is another one.
      if (row && row.fence !== end.fence) continue;
      this.rows.delete(key);
      this.ended.set(key, { ...row, ...end });
      if (this.ended.size > 200) this.ended.delete(this.ended.keys().next().value);
      this.dispatchEvent(new CustomEvent("gone", { detail: this.ended.get(key) }));
    }
  }

  /** Count a start, or an end by its reason, until the gateway's own count of that minute comes. */
  count(at, reason) {
    if (at <= this.countedMs) return;
    const minute = at - (at % MINUTE_MS);
    const { starts = 0, ends = {} } = this.minutes.find((each) => each.at === minute) ?? {};
    this.takeMinutes([{ at: minute, starts: starts + !reason, ends: reason ? { ...ends, [reason]: (ends[reason] ?? 0) + 1 } : ends }]);
  }

  takeMinutes(minutes) {
    const known = new Map(this.minutes.map((each) => [each.at, each]));
    for (const each of minutes) known.set(each.at, each);
    this.minutes = [...known.values()].sort((a, b) => a.at - b.at).slice(-HOUR_MINUTES);
  }
}
