// The sessions that live: what waits for somebody first, then as the address says.

import { html, nothing } from "./lit-html/lit-html.js";
import { ask } from "./api.js";
import { keyOf } from "./feed.js";
import { attempt, endSession, hourChart, List, stateOf } from "./parts.js";
import { dollars, duration, figure, isFailure, needsSomebody, plain, STATES, told } from "./words.js";

const LEAVES_MS = 5000;
const MOST_LEAVING = 50;
const SAID_MS = 3000;
const SORTS = {
  created: ["newest", (row) => -row.createdAt],
  oldest: ["oldest", (row) => row.createdAt],
  activity: ["last active", (row) => -row.lastActivityAt],
  tokens: ["most tokens", (row) => -row.tokens],
  cost: ["highest cost", (row) => -row.costUsd],
};
const FIELDS = {
  state: (row) => row.state,
  blueprint: (row) => row.blueprint,
  model: (row) => row.model,
  node: (row) => row.node,
  tenant: (row) => row.tenantId,
};

export class SessionsPage {
  title = "Sessions";
  list = new List(this, "sessions", FIELDS);
  /** Rows whose session has ended: they stay for a moment and say why. */
  leaving = new Map();
  stopping = new Set();
  said = "";
  ends = [];

  constructor(app, _, query) {
    this.app = app;
    this.mayCreate = !app.me.operator && app.me.scopes.includes("create");
    this.mayStop = app.me.operator || app.me.scopes.includes("delete");
    this.follow([], query);
    this.onGone = (event) => this.leave(event.detail);
    this.onKey = (event) => this.key(event);
    app.feed.addEventListener("gone", this.onGone);
    addEventListener("keydown", this.onKey);
  }

  follow(_, query) {
    this.query = query;
    // Where there are too many for one page, the gateway chooses.
    const asked = new URLSearchParams();
    if (this.app.feed.crowded) {
      for (const name in FIELDS) if (query.get(name)) asked.set(name, query.get(name));
      if (/^[\w~.-]{1,128}$/.test(query.get("q"))) asked.set("prefix", query.get("q") ?? "");
    }
    this.app.feed.open(asked.toString());
    return true;
  }

  close() {
    this.app.feed.removeEventListener("gone", this.onGone);
    removeEventListener("keydown", this.onKey);
    clearTimeout(this.saying);
  }

  leave(end) {
    const key = keyOf(end);
    this.stopping.delete(key);
    if (end.createdAt && this.leaving.size < MOST_LEAVING) {
      this.leaving.set(key, { ...end, state: "ended" });
      setTimeout(() => this.leaving.delete(key) && this.app.draw(), LEAVES_MS);
    }
    // Many at once are said as one.
    this.ends.push(`${end.sessionId}, ${end.reason}`);
    this.saying ??= setTimeout(() => {
      const count = this.ends.length;
      this.said = `${count > 1 ? `${count} sessions have ended, the last was` : "Ended:"} ${this.ends.at(-1)}.`;
      this.ends = [];
      this.saying = undefined;
      this.app.draw();
    }, this.said ? SAID_MS : 200);
  }

  /** The rows to show, in order. */
  shown() {
    const search = (this.query.get("q") ?? "").toLowerCase();
    const state = this.query.get("state");
    const { rows } = this.app.feed;
    const found = this.list.chosen([...rows.values(), ...[...this.leaving].filter(([key]) => !rows.has(key)).map(([, row]) => row)], "state").filter(
      (row) => (!search || row.sessionId.toLowerCase().includes(search))
        // Dormant ones have no agent: they are shown to who asks for them.
        && (row.state === "ended" || (state ? row.state === state : row.state !== "dormant")),
    );
    const [, by] = SORTS[this.query.get("sort")] ?? SORTS.created;
    return found.sort((a, b) => needsSomebody(b) - needsSomebody(a) || by(a) - by(b) || (keyOf(a) < keyOf(b) ? -1 : 1));
  }

  view() {
    const { feed } = this.app;
    const all = [...feed.rows.values()];
    const counts = feed.tooMany?.byState ?? Object.fromEntries(Object.keys(STATES).map((state) => [state, all.filter((row) => row.state === state).length]));
    const { waiting_approval: approvals = 0, waiting_input: questions = 0, working = 0, dormant = 0 } = counts;
    this.waiting = approvals + questions;
    return html`<div class="title">
        <h1>Sessions</h1>
        <p class="summary"><b>${figure((feed.tooMany?.total ?? all.length) - dormant)}</b> live · <b>${figure(working)}</b> working ·
          <b class=${this.waiting ? "attention" : ""}>${figure(this.waiting)}</b> waiting for somebody</p>
        ${this.mayCreate ? html`<button class="primary" @click=${() => this.begin()}>New session</button>` : nothing}
      </div>
      ${hourChart(feed.minutes, feed.now())}
      ${this.list.controls(all, "Search ids", this.list.choice("sort", Object.entries(SORTS).map(([name, [word]], at) => [at ? name : "", `${word} first`])))}
      <p class="hidden" aria-live="polite">${this.waiting ? `${this.waiting} wait for somebody. ` : ""}${this.said}</p>
      ${feed.tooMany ? this.many(feed.tooMany) : this.table(this.shown())}
      ${this.creating ? this.dialog() : nothing}`;
  }

  table(rows) {
    if (!rows.length) return this.nothing();
    const { feed, me } = this.app;
    const now = feed.now();
    const state = (row) => {
      if (row.state === "ended") return stateOf(isFailure(row.reason) ? "failed" : "ended", `ended: ${plain(row.reason)}`);
      const shown = this.stopping.has(keyOf(row)) ? "stopping" : row.state;
      return stateOf(shown, STATES[shown] ?? shown);
    };
    const link = (row) => html`<a href="#/session/${(me.operator ? [row.tenantId, row.sessionId] : [row.sessionId]).map(encodeURIComponent).join("/")}">${plain(row.sessionId)}</a>`;
    const end = (row) => (!this.mayStop || row.state === "ended" || this.stopping.has(keyOf(row)) ? nothing
      : html`<button aria-label="End session ${plain(row.sessionId)}" @click=${() => this.stop(row)}>End</button>`);
    return this.list.table(rows, keyOf, [
      ["state", "s", state],
      ["session", "id", link],
      ...(me.operator ? [["tenant", "t", (row) => plain(row.tenantId)]] : []),
      ["blueprint", "b", (row) => plain(row.blueprint)],
      ["model", "m", (row) => plain(row.model)],
      ["age", "n age", (row) => duration(now - row.createdAt)],
      ["active", "n active", (row) => duration(now - row.lastActivityAt)],
      ["turns", "n turns", (row) => figure(row.turns)],
      ["tokens", "n tokens", (row) => figure(row.tokens)],
      ["cost", "n cost", (row) => dollars(row.costUsd)],
      ...(rows.some((row) => row.node) ? [["node", "node", (row) => plain(row.node)]] : []),
      [html`<span class="hidden">actions</span>`, "act", end],
    ], (row) => (row.state === "ended" ? "leaves" : needsSomebody(row) ? "needs" : ""));
  }

  stop(row) {
    endSession(this.app.me, row, (state) => {
      this.stopping[state ? "add" : "delete"](keyOf(row));
      this.app.draw();
    });
  }

  nothing() {
    const { feed } = this.app;
    if (!feed.ready) return html`<p class="empty">Waiting for the first word from the gateway …</p>`;
    if (feed.rows.size || feed.filter) return html`<p class="empty">No session matches. <a href="#/sessions">Show all</a></p>`;
    return html`<div class="empty"><h2>Nobody is in the building</h2>
      ${this.mayCreate ? html`<p>Open the first session <button class="quiet" @click=${() => this.begin()}>here</button>, or by the API:</p>
        <pre>curl ${location.origin}/v1/sessions -H "X-API-Key: $FRONTDESK_KEY" --json '{"model": "demo"}'</pre>` : html`<p>As soon as a session is opened, it is here.</p>`}</div>`;
  }

  many(said) {
    const list = (name, counts) => html`<section><h2>by ${name}</h2><ul>${Object.entries(counts).sort((a, b) => b[1] - a[1]).slice(0, 20).map(
      ([value, n]) => html`<li><a href="#/sessions?${new URLSearchParams({ ...Object.fromEntries(this.query), [name]: value })}">${STATES[value] ?? plain(value)}</a> <b>${figure(n)}</b></li>`,
    )}</ul></section>`;
    return html`<div class="many"><p><b>${figure(said.total)} sessions are too many to list.</b> Choose some, or search for how an id begins.</p>
      ${list("state", said.byState)}${list("blueprint", said.byBlueprint)}${this.app.me.operator ? list("tenant", said.byTenant) : nothing}</div>`;
  }

  drawn() {
    this.list.drawn();
    document.querySelector("dialog.new:not([open])")?.showModal();
  }

  key(event) {
    const { key, target } = event;
    let next = null;
    if (key === "/" && !target.closest("input, select, textarea, dialog")) next = document.getElementById("search");
    if (/^Arrow(Up|Down)$/.test(key) && target.matches(".id a, #search")) {
      const row = target.closest("tr");
      next = row ? row[key === "ArrowDown" ? "nextElementSibling" : "previousElementSibling"]?.querySelector("a") : document.querySelector(".rows .id a");
    }
    if (next) event.preventDefault();
    next?.focus();
  }

  // -- a new session

  async begin() {
    this.offers ??= (await attempt(() => ask("GET", "v1/blueprints")))?.blueprints;
    if (!this.offers) return;
    this.creating = true;
    this.problem = null;
    this.chosen ??= this.offers.find((each) => each.default) ?? this.offers[0];
    this.app.draw();
  }

  dialog() {
    const models = this.chosen.models.filter((name) => !/[*?[]/.test(name));
    const change = (more) => {
      Object.assign(this, more);
      this.app.draw();
    };
    return html`<dialog class="new" aria-labelledby="new" @close=${() => change({ creating: false })}>
      <h2 id="new">New session</h2>
      <form @submit=${(event) => this.create(event)}>
        <label>Blueprint <select name="blueprint" @change=${(event) => change({ chosen: this.offers[event.target.selectedIndex] })}>
          ${this.offers.map((each) => html`<option value=${each.name} .selected=${each === this.chosen}>${each.name}</option>`)}</select></label>
        <label>Model <input name="model" list="models" required placeholder="provider:model" .value=${models[0] ?? ""} autocomplete="off" spellcheck="false"></label>
        <datalist id="models">${models.map((name) => html`<option value=${name}></option>`)}</datalist>
        <label>Id <input name="sessionId" placeholder="chosen for you" maxlength="128" autocomplete="off" spellcheck="false"></label>
        <label>First prompt <textarea name="prompt" rows="2" placeholder="may come later" autofocus></textarea></label>
        ${this.problem ? html`<p class="error" role="alert">${told(this.problem)}</p>` : nothing}
        <p class="buttons"><button type="button" @click=${(event) => event.target.closest("dialog").close()}>Cancel</button><button class="primary">Open</button></p>
      </form></dialog>`;
  }

  async create(event) {
    event.preventDefault();
    const given = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value.trim()));
    try {
      const made = await ask("POST", "v1/sessions", given);
      location.hash = `#/session/${encodeURIComponent(made.sessionId)}`;
    } catch (error) {
      this.problem = error;
      this.app.draw();
    }
  }
}
