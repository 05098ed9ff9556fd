// The sessions that live: what waits for somebody first, then as the address says.

import { html, nothing } from "./lit-html/lit-html.js";
import { repeat } from "./lit-html/directives/repeat.js";
import { live } from "./lit-html/directives/live.js";
import { ask } from "./api.js";
import { keyOf } from "./feed.js";
import { attempt, hourChart, notify, reasonsOf, stateOf } from "./parts.js";
import { dollars, duration, figure, isFailure, needsSomebody, STATES, why } from "./words.js";

const AT_MOST = 100;
const SPARE = 20;
const SORTS = {
  activity: ["last activity", (a, b) => b.lastActivityAt - a.lastActivityAt],
  created: ["newest", (a, b) => b.createdAt - a.createdAt],
  oldest: ["oldest", (a, b) => a.createdAt - b.createdAt],
  tokens: ["most tokens", (a, b) => b.tokens - a.tokens],
  cost: ["highest cost", (a, b) => b.costUsd - a.costUsd],
};
const FILTERS = ["state", "blueprint", "model", "node", "tenant"];
const FIELD = { tenant: "tenantId" };

export class SessionsPage {
  constructor(app, _, query) {
    this.app = app;
    this.scrolled = 0;
    this.rowHeight = 41;
    this.announced = "";
    this.creating = false;
    this.follow([], query);
    this.onGone = (event) => this.announce(event.detail);
    this.onKey = (event) => this.key(event);
    app.feed.addEventListener("gone", this.onGone);
    addEventListener("keydown", this.onKey);
  }

  follow(_, query) {
    this.query = query;
    this.app.feed.open("");
    return true;
  }

  close() {
    this.app.feed.removeEventListener("gone", this.onGone);
    removeEventListener("keydown", this.onKey);
  }

  announce(end) {
    this.announced = `${end.sessionId} has ended: ${end.reason}`;
    if (isFailure(end.reason)) notify(`${end.sessionId}: ${why(end.reason)} (${end.reason})`, "error");
  }

  set(name, value) {
    if (value) this.query.set(name, value);
    else this.query.delete(name);
    const query = this.query.toString();
    history.replaceState(null, "", `#/sessions${query ? `?${query}` : ""}`);
    this.scrolled = 0;
    document.querySelector(".rows")?.scrollTo(0, 0);
    this.app.draw();
  }

  /** The rows to show, in order. */
  shown() {
    const search = (this.query.get("q") ?? "").toLowerCase();
    const wanted = FILTERS.map((name) => [FIELD[name] ?? name, this.query.get(name)]).filter(([, value]) => value);
    const [, byChoice] = SORTS[this.query.get("sort")] ?? SORTS.activity;
    const rows = [];
    for (const row of this.app.feed.rows.values()) {
      if (search && !row.sessionId.toLowerCase().includes(search)) continue;
      if (wanted.every(([name, value]) => row[name] === value)) rows.push(row);
    }
    return rows.sort((a, b) => needsSomebody(b) - needsSomebody(a) || byChoice(a, b) || (keyOf(a) < keyOf(b) ? -1 : 1));
  }

  view() {
    const { feed, me } = this.app;
    const rows = this.shown();
    this.rows = rows;
    const all = [...feed.rows.values()];
    const waiting = all.filter(needsSomebody).length;
    const working = all.filter((row) => row.state === "working").length;
    return html`<div class="title">
        <h1>Sessions</h1>
        <p class="summary" aria-live="off">
          <b>${figure(feed.tooMany?.total ?? all.length)}</b> live ·
          <b>${figure(working)}</b> working ·
          <b class=${waiting ? "attention" : ""}>${figure(waiting)}</b> waiting for somebody
        </p>
        ${me.scopes.includes("create") && !me.operator
          ? html`<button class="primary" @click=${() => this.begin()}>New session</button>`
          : nothing}
      </div>
      ${this.creating ? this.form() : nothing}
      <section class="past" aria-label="The last hour">
        ${hourChart(feed.minutes, feed.now())}
        <ul class="reasons">${reasonsOf(feed.minutes).slice(0, 5).map(
          ([reason, n]) => html`<li class=${isFailure(reason) ? "failed" : ""}><b>${figure(n)}</b> ${reason}</li>`,
        )}</ul>
      </section>
      ${this.controls(all)}
      <p class="hidden" aria-live="polite">${this.announced}</p>
      ${feed.tooMany ? this.many(feed.tooMany) : this.table(rows)}`;
  }

  controls(all) {
    const choice = (name) => {
      const field = FIELD[name] ?? name;
      const values = [...new Set(all.map((row) => row[field]))].filter(Boolean).sort().slice(0, 200);
      const chosen = this.query.get(name) ?? "";
      if (values.length < 2 && !chosen) return nothing;
      if (chosen && !values.includes(chosen)) values.push(chosen);
      return html`<label>${name}
        <select .value=${live(chosen)} @change=${(event) => this.set(name, event.target.value)}>
          <option value="">all</option>
          ${values.map((value) => html`<option value=${value} ?selected=${value === chosen}>${name === "state" ? (STATES[value] ?? value) : value}</option>`)}
        </select></label>`;
    };
    const sort = SORTS[this.query.get("sort")] ? this.query.get("sort") : "activity";
    return html`<form class="controls" role="search" @submit=${(event) => event.preventDefault()}>
      <label>search
        <input id="search" type="search" placeholder="part of an id  ( / )" .value=${live(this.query.get("q") ?? "")}
          @input=${(event) => this.set("q", event.target.value)} autocomplete="off" spellcheck="false"></label>
      ${FILTERS.map(choice)}
      <label>order
        <select @change=${(event) => this.set("sort", event.target.value)}>
          ${Object.entries(SORTS).map(([name, [word]]) => html`<option value=${name} ?selected=${name === sort}>${word}</option>`)}
        </select></label>
    </form>`;
  }

  table(rows) {
    const { feed, me } = this.app;
    if (!rows.length) return this.nothing();
    const visible = Math.min(AT_MOST, Math.ceil((this.height ?? 800) / this.rowHeight) + SPARE);
    const first = Math.max(0, Math.min(Math.floor(this.scrolled / this.rowHeight) - SPARE / 2, rows.length - visible));
    const window = rows.slice(first, first + visible);
    const above = first * this.rowHeight;
    const below = Math.max(0, rows.length - first - window.length) * this.rowHeight;
    const now = feed.now();
    return html`<div class="rows" tabindex="-1" @scroll=${(event) => this.scroll(event)}>
      <table aria-rowcount=${rows.length + 1} aria-label="Sessions">
        <thead><tr aria-rowindex="1">
          <th scope="col">state</th><th scope="col">session</th>${me.operator ? html`<th scope="col">tenant</th>` : nothing}
          <th scope="col">blueprint</th><th scope="col">model</th>
          <th scope="col" class="n">age</th><th scope="col" class="n">active</th><th scope="col" class="n">turns</th>
          <th scope="col" class="n">tokens</th><th scope="col" class="n">cost</th><th scope="col">node</th>
        </tr></thead>
        <tbody>
          ${above ? html`<tr class="space" aria-hidden="true"><td .style=${`height: ${above}px`}></td></tr>` : nothing}
          ${repeat(window, keyOf, (row, at) => this.row(row, first + at, now))}
          ${below ? html`<tr class="space" aria-hidden="true"><td .style=${`height: ${below}px`}></td></tr>` : nothing}
        </tbody>
      </table>
    </div>`;
  }

  row(row, at, now) {
    const { me } = this.app;
    const path = (me.operator ? [row.tenantId, row.sessionId] : [row.sessionId]).map(encodeURIComponent).join("/");
    const waits = row.approvals + row.questions;
    return html`<tr aria-rowindex=${at + 2} class=${needsSomebody(row) ? "needs" : ""}>
      <td class="s">${stateOf(row.state, STATES[row.state] ?? row.state)}${waits > 1 ? html` <b class="count">${waits}</b>` : nothing}</td>
      <td class="id"><a href="#/session/${path}" title=${row.sessionId}>${row.sessionId}</a></td>
      ${me.operator ? html`<td class="t">${row.tenantId}</td>` : nothing}
      <td class="b">${row.blueprint}</td><td class="m" title=${row.model}>${row.model}</td>
      <td class="n age">${duration(now - row.createdAt)}</td>
      <td class="n active">${duration(now - row.lastActivityAt)}<span class="hidden"> ago</span></td>
      <td class="n turns">${figure(row.turns)}</td><td class="n tokens">${figure(row.tokens)}</td>
      <td class="n cost">${dollars(row.costUsd)}</td><td class="node">${row.node}</td>
    </tr>`;
  }

  nothing() {
    const { feed, me } = this.app;
    if (!feed.ready) return html`<p class="empty">Waiting for the first word from the gateway …</p>`;
    if (feed.rows.size) {
      return html`<p class="empty">None of ${figure(feed.rows.size)} sessions matches.
        <button class="quiet" @click=${() => { location.hash = "#/sessions"; }}>Show all</button></p>`;
    }
    return html`<p class="empty">Nobody is in the building. ${me.operator ? "As soon as a session is opened, it is here." : "Open a session here or through the API, and it appears at once."}</p>`;
  }

  many(said) {
    const list = (title, name, counts) => html`<section><h2>${title}</h2><ul>${Object.entries(counts ?? {})
      .sort((a, b) => b[1] - a[1]).slice(0, 20)
      .map(([value, n]) => html`<li><a href="#/sessions?${new URLSearchParams({ [name]: value })}">${STATES[value] ?? value}</a> <b>${figure(n)}</b></li>`)}</ul></section>`;
    return html`<div class="many"><p>${figure(said.total)} sessions are too many for a list: choose fewer.</p>
      ${list("By state", "state", said.byState)}${list("By blueprint", "blueprint", said.byBlueprint)}
      ${this.app.me.operator ? list("By tenant", "tenant", said.byTenant) : nothing}</div>`;
  }

  scroll(event) {
    this.scrolled = event.target.scrollTop;
    this.height = event.target.clientHeight;
    this.app.draw();
  }

  drawn() {
    const row = document.querySelector(".rows tbody tr:not(.space)");
    if (row) this.rowHeight = row.offsetHeight || this.rowHeight;
  }

  key(event) {
    const typing = event.target.closest?.("input, select, textarea, dialog");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      document.getElementById("search")?.focus();
    }
    if ((event.key === "ArrowDown" || event.key === "ArrowUp") && event.target.matches?.(".id a")) {
      const row = event.target.closest("tr");
      const next = event.key === "ArrowDown" ? row.nextElementSibling : row.previousElementSibling;
      const link = next?.querySelector(".id a");
      if (link) {
        event.preventDefault();
        link.focus();
      }
    }
  }

  // -- a new session ----------------------------------------------------------------------------

  async begin() {
    this.offers ??= (await attempt(() => ask("GET", "v1/blueprints")))?.blueprints;
    if (!this.offers) return;
    this.creating = true;
    this.chosen ??= (this.offers.find((each) => each.default) ?? this.offers[0])?.name;
    this.app.draw();
  }

  form() {
    const offer = this.offers.find((each) => each.name === this.chosen);
    const models = (offer?.models ?? []).filter((name) => !/[*?[]/.test(name));
    return html`<form class="new" @submit=${(event) => this.create(event)}>
      <label>blueprint
        <select name="blueprint" @change=${(event) => { this.chosen = event.target.value; this.app.draw(); }}>
          ${this.offers.map((each) => html`<option value=${each.name} ?selected=${each.name === this.chosen}>${each.name}</option>`)}
        </select></label>
      <label>model <input name="model" list="models" required placeholder="provider:model" .value=${models[0] ?? ""} autocomplete="off" spellcheck="false">
        <datalist id="models">${models.map((name) => html`<option value=${name}></option>`)}</datalist></label>
      <label>id <input name="sessionId" placeholder="chosen for you" maxlength="128" autocomplete="off" spellcheck="false"></label>
      <span class="buttons"><button class="primary">Open</button>
        <button type="button" class="quiet" @click=${() => { this.creating = false; this.app.draw(); }}>Cancel</button></span>
    </form>`;
  }

  async create(event) {
    event.preventDefault();
    const given = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value));
    const made = await attempt(() => ask("POST", "v1/sessions", given));
    if (made) location.hash = `#/session/${encodeURIComponent(made.sessionId)}`;
  }
}
