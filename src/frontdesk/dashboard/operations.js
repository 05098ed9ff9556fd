// Why sessions ended, the nodes, and what was used.

import { html, nothing, svg } from "./lit-html/lit-html.js";
import { repeat } from "./lit-html/directives/repeat.js";
import { ask } from "./api.js";
import { attempt, confirmed, csv, download, notify, stateOf } from "./parts.js";
import { dollars, duration, figure, isFailure, moment, told, why } from "./words.js";

const AGAIN_MS = 5000;
const SOON_MS = 500;
const AT_MOST = 100;
const SPARE = 20;

/** A page that asks for what it shows, and again while it is looked at. */
class AskingPage {
  againMs = AGAIN_MS;

  constructor(app, parts, query) {
    this.app = app;
    this.said = null;
    this.error = null;
    this.asked = 0;
    this.onVisible = () => document.hidden || this.load();
    document.addEventListener("visibilitychange", this.onVisible);
    app.feed.open("");
    this.query = query;
    this.load();
  }

  follow(_, query) {
    this.query = query;
    return true;
  }

  close() {
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.onVisible);
    this.asked = -1;
  }

  async load() {
    clearTimeout(this.timer);
    this.timer = undefined;
    const number = ++this.asked;
    const answer = await this.asks().then((said) => ({ said, error: null }), (error) => ({ error }));
    // A later question has been asked, or the page is another one.
    if (number !== this.asked) return;
    Object.assign(this, answer);
    this.app.draw();
    if (!document.hidden) this.again(this.againMs);
  }

  again(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), ms);
  }

  set(name, value) {
    if (value) this.query.set(name, value);
    else this.query.delete(name);
    const query = this.query.toString();
    history.replaceState(null, "", `#/${this.app.name}${query ? `?${query}` : ""}`);
    this.app.draw();
  }

  view() {
    const { error, said } = this;
    // That the gateway is not there is said on top of the page.
    const silent = said && error?.status === 0;
    return html`<div class="title"><h1>${this.title}</h1>${said ? this.summary(said) : nothing}</div>
      ${error && !silent ? html`<p class="error" role="alert">${told(error)}</p>` : nothing}
      ${said ? this.content(said) : error ? nothing : html`<p class="empty">Loading …</p>`}`;
  }
}

const kindOf = (reason) => /^[a-z_]+/.exec(reason)?.[0] ?? reason;
const endKey = (end) => `${end.tenantId}/${end.sessionId}/${end.fence}`;
const ENDS_BY = {
  reason: (end) => kindOf(end.reason),
  blueprint: (end) => end.blueprint,
  tenant: (end) => end.tenantId,
  node: (end) => end.node,
};

export class EndsPage extends AskingPage {
  title = "Ends";
  againMs = 30_000;
  scrolled = 0;
  rowHeight = 37;

  constructor(app, parts, query) {
    super(app, parts, query);
    // Many may go at once: they are asked for together.
    this.onGone = () => {
      if (this.soon) return;
      this.soon = setTimeout(() => {
        this.soon = undefined;
        this.load();
      }, SOON_MS);
    };
    app.feed.addEventListener("gone", this.onGone);
  }

  close() {
    clearTimeout(this.soon);
    this.app.feed.removeEventListener("gone", this.onGone);
    super.close();
  }

  asks() {
    return ask("GET", this.app.me.operator ? "ops/ends" : "v1/ends");
  }

  set(name, value) {
    this.scrolled = 0;
    document.querySelector(".rows")?.scrollTo(0, 0);
    super.set(name, value);
  }

  summary({ ends, partial }) {
    const failed = ends.filter((end) => isFailure(end.reason)).length;
    return html`<p class="summary">the last <b>${figure(ends.length)}</b> · <b class=${failed ? "bad" : ""}>${figure(failed)}</b> by a failure
      ${partial ? html` · some node does not answer: its ends are missing` : nothing}</p>`;
  }

  content({ ends }) {
    if (!ends.length) return html`<p class="empty">No session has ended since the gateway began.</p>`;
    const search = (this.query.get("q") ?? "").toLowerCase();
    const wanted = Object.entries(ENDS_BY).filter(([name]) => this.query.get(name));
    const shown = ends.filter((end) =>
      (!search || end.sessionId.toLowerCase().includes(search) || end.logId === search)
      && wanted.every(([name, of]) => of(end) === this.query.get(name)));
    return html`<form class="controls" role="search" @submit=${(event) => event.preventDefault()}>
        <input type="search" aria-label="Search for a session or a log id" placeholder="Session or log id" .value=${this.query.get("q") ?? ""}
          @input=${(event) => this.set("q", event.target.value)} autocomplete="off" spellcheck="false">
        ${Object.entries(ENDS_BY).map(([name, of]) => this.choice(name, ends.map(of)))}
      </form>
      ${shown.length ? this.table(shown) : html`<p class="empty">None of ${figure(ends.length)} ends matches.
        <button class="quiet" @click=${() => { location.hash = "#/ends"; }}>Show all</button></p>`}`;
  }

  choice(name, all) {
    const chosen = this.query.get(name) ?? "";
    const values = [...new Set([...all, chosen])].filter(Boolean).sort().slice(0, 200);
    if (values.length < 2 && !chosen) return nothing;
    return html`<select aria-label=${name} class=${chosen ? "chosen" : ""} @change=${(event) => this.set(name, event.target.value)}>
      <option value="" .selected=${!chosen}>every ${name}</option>
      ${values.map((value) => html`<option value=${value} .selected=${value === chosen}>${value}</option>`)}</select>`;
  }

  table(ends) {
    const { operator } = this.app.me;
    const nodes = ends.some((end) => end.node);
    const visible = Math.min(AT_MOST, Math.ceil((this.height ?? 800) / this.rowHeight) + SPARE);
    const first = Math.max(0, Math.min(Math.floor(this.scrolled / this.rowHeight) - SPARE / 2, ends.length - visible));
    const space = (n) => (n > 0 ? html`<tr class="space" aria-hidden="true"><td .style=${`height: ${n * this.rowHeight}px`}></td></tr>` : nothing);
    const head = (name, kind = "") => html`<th scope="col" class=${kind}>${name}</th>`;
    const now = this.app.feed.now();
    return html`<div class="rows ends" tabindex="0" role="region" aria-label="Ends" @scroll=${(event) => this.scroll(event.target)}>
      <table aria-rowcount=${ends.length + 1} aria-label="Ends">
        <thead><tr aria-rowindex="1">${head("ended")}${head("session")}${operator ? head("tenant") : nothing}${head("reason")}${head("blueprint", "b")}
          ${head("lived", "n")}${head("turns", "n turns")}${head("tokens", "n tokens")}${nodes ? head("node", "node") : nothing}${head("log id", "log")}</tr></thead>
        <tbody>${space(first)}${repeat(ends.slice(first, first + visible), endKey, (end, at) => html`<tr aria-rowindex=${first + at + 2}>
          <td class="when" title=${moment(end.at)}>${duration(now - end.at)} ago</td>
          <td class="id" title=${end.sessionId}>${end.sessionId}</td>${operator ? html`<td class="t">${end.tenantId}</td>` : nothing}
          <td class="why" title="${end.reason}. ${why(end.reason)}">${stateOf(isFailure(end.reason) ? "failed" : "ended", end.reason)} <span>${why(end.reason)}</span></td>
          <td class="b">${end.blueprint}</td><td class="n">${duration(end.ageMs)}</td><td class="n turns">${figure(end.turns)}</td>
          <td class="n tokens">${figure(end.tokens)}</td>${nodes ? html`<td class="node">${end.node}</td>` : nothing}
          <td class="log"><code>${end.logId}</code></td></tr>`)}${space(ends.length - first - visible)}</tbody></table></div>`;
  }

  scroll(place) {
    this.scrolled = place.scrollTop;
    this.height = place.clientHeight;
    this.app.draw();
  }

  drawn() {
    const row = document.querySelector(".rows tbody tr:not(.space)");
    if (row) this.rowHeight = row.offsetHeight || this.rowHeight;
  }
}

/** A part of the most there is, as a bar beside its figure. */
const share = (part) => html`<svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">${svg`<rect width="100" height="6"></rect><rect class="part" width=${Math.round(part * 100)} height="6"></rect>`}</svg>`;
const fact = (name, value) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`;

export class NodesPage extends AskingPage {
  title = "Nodes";
  /** Nodes that were asked to drain: shown so until they say it themselves. */
  drains = new Set();

  async asks() {
    const { nodes } = await ask("GET", "ops/nodes");
    return { nodes, alone: nodes.length ? null : await ask("GET", "ops/status") };
  }

  summary({ nodes }) {
    if (!nodes.length) return nothing;
    const unwell = nodes.filter((node) => node.state !== "alive").length;
    return html`<p class="summary"><b>${figure(nodes.length)}</b> in all · <b class=${unwell ? "attention" : ""}>${figure(unwell)}</b> not well ·
      <b>${figure(nodes.reduce((sum, node) => sum + node.sessions, 0))}</b> sessions</p>`;
  }

  content({ nodes, alone }) {
    if (alone) {
      return html`<p>This gateway is alone. With <code>--workers</code>, or with an engine for several machines, each node is listed here.</p>
        <dl class="facts">${fact("version", alone.version)}${fact("state", alone.draining ? "draining" : "takes sessions")}${fact("sessions", figure(alone.sessions))}
          ${fact("open streams", figure(alone.streams))}${fact("stuck turns", figure(alone.stuck))}${fact("keys", figure(alone.keys))}</dl>`;
    }
    const usual = mostFrequent(nodes.map((node) => node.configDigest));
    const version = mostFrequent(nodes.map((node) => node.version));
    const differing = nodes.filter((node) => node.configDigest !== usual);
    const most = Math.max(1, ...nodes.map((node) => node.sessions));
    const head = (name, kind = "") => html`<th scope="col" class=${kind}>${name}</th>`;
    const odd = (value, expected, text) => (value === expected ? text : html`<b class="differs">${text} differs</b>`);
    return html`${differing.length ? html`<p class="stale" role="status">Not every node has the same configuration: keys, blueprints or limits differ
        on ${differing.map((node) => node.name).join(", ")}. Reload or restart with the same files.</p>` : nothing}
      <div class="scroll" tabindex="0" role="region" aria-label="Nodes"><table>
        <thead><tr>${head("node")}${head("state")}${head("sessions", "n")}<td class="share"></td>${head("lease left", "n parts")}
          ${head("version", "parts")}${head("configuration", "parts")}${head(html`<span class="hidden">actions</span>`)}</tr></thead>
        <tbody>${nodes.map((node) => html`<tr>
          <td class="name">${node.name}${node.answering ? html` <small>answers here</small>` : nothing}</td>
          <td>${nodeState(node, this.drains)}</td><td class="n">${figure(node.sessions)}</td>
          <td class="share">${share(node.sessions / most)}</td>
          <td class="n parts">${node.leaseLeftMs > 0 ? duration(node.leaseLeftMs) : html`<b class="differs">over</b>`}</td>
          <td class="parts">${odd(node.version, version, node.version)}</td><td class="parts">${odd(node.configDigest, usual, html`<code>${node.configDigest.slice(0, 8)}</code>`)}</td>
          <td class="n">${node.draining || this.drains.has(node.incarnation) ? nothing : html`<button aria-label="Drain ${node.name}" @click=${() => this.drain(node)}>Drain</button>`}</td></tr>`)}</tbody></table></div>`;
  }

  async drain(node) {
    const sure = await confirmed(`Drain ${node.name}?`, html`It opens no more sessions; its ${figure(node.sessions)} go on until they end. It stays so until it is started again.`, "Drain it");
    if (!sure) return;
    if (await attempt(() => ask("POST", `ops/nodes/${encodeURIComponent(node.incarnation)}/drain`))) {
      this.drains.add(node.incarnation);
      notify(`${node.name} drains: it opens no more sessions.`);
    }
    this.load();
  }
}

const NODE_WORDS = {
  alive: ["idle", "alive"],
  stalled: ["suspect", "stalled: it has not renewed in time"],
  suspect: ["suspect", "suspect: it is not heard of"],
  leaving: ["stopping", "leaving"],
};

function nodeState(node, asked) {
  const [look, word] = NODE_WORDS[node.state] ?? ["suspect", node.state];
  if (node.state !== "alive") return stateOf(look, word);
  if (node.draining) return stateOf("stopping", "draining");
  return asked.has(node.incarnation) ? stateOf("stopping", "drain asked for") : stateOf(look, word);
}

function mostFrequent(values) {
  const counts = new Map();
  for (const each of values) counts.set(each, (counts.get(each) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
}

const SUMS = ["prompts", "promptTokens", "completionTokens", "cachedTokens", "totalTokens", "costUsd", "unknownTurns"];
const MOST_PAGES = 50;

export class UsagePage extends AskingPage {
  title = "Usage";
  againMs = 15_000;

  /** All pages of it; of very many keys the first ones. */
  async asks() {
    const { operator, tenantId } = this.app.me;
    const path = operator ? "ops/usage?" : "v1/usage?by=key&";
    const rows = [];
    let first = null;
    let after = null;
    let pages = 0;
    do {
      const said = await ask("GET", `${path}limit=1000${after === null ? "" : `&after=${encodeURIComponent(after)}`}`);
      first ??= said;
      rows.push(...said.rows);
      after = said.next ?? null;
      pages += 1;
    } while (after !== null && pages < MOST_PAGES);
    const known = rows.map((row) => ({ ...row, tenantId: row.tenantId ?? tenantId, keyId: row.keyId ?? "" }));
    return { rows: known.sort((a, b) => b.costUsd - a.costUsd || b.totalTokens - a.totalTokens), budgets: first.budgets ?? [], more: after !== null };
  }

  summary({ rows }) {
    const all = totals(rows);
    return html`<p class="summary"><b>${figure(all.prompts)}</b> prompts · <b>${figure(all.totalTokens)}</b> tokens · <b>${dollars(all.costUsd)}</b></p>
      <button @click=${() => this.save()} ?disabled=${!rows.length}>Save as CSV</button>`;
  }

  save() {
    const columns = ["tenantId", "keyId", ...SUMS];
    download("frontdesk-usage.csv", csv(columns, this.said.rows.map((row) => columns.map((name) => row[name]))));
  }

  content({ rows, budgets, more }) {
    const { operator } = this.app.me;
    if (!rows.length) return html`<p class="empty">Nothing has been used yet. What prompts cost is counted here, by key${operator ? " and tenant" : ""}.</p>`;
    const all = totals(rows);
    const most = Math.max(1, ...rows.map((row) => row.totalTokens));
    const cells = (row) => html`<td class="n">${figure(row.prompts)}</td><td class="n parts">${figure(row.promptTokens)}</td><td class="n cached">${figure(row.cachedTokens)}</td>
      <td class="n parts">${figure(row.completionTokens)}</td><td class="n">${figure(row.totalTokens)}</td>`;
    const head = (name, kind = "") => html`<th scope="col" class=${kind}>${name}</th>`;
    return html`${budgets.length ? html`<dl class="facts">${budgets.map((each) => fact(`${each.budget.replaceAll("_", " ")} ${each.scope === "per_tenant" ? "of the tenant" : "of this key"}`,
        html`${amount(each, each.left)} left of ${amount(each, each.limit)}, anew ${moment(each.resetsAt)}`))}</dl>` : nothing}
      ${more ? html`<p class="stale" role="status">There are more keys than are shown here.</p>` : nothing}
      ${all.unknownTurns ? html`<p class="summary">Not among it is what ${figure(all.unknownTurns)} turns used: their agents did not say.</p>` : nothing}
      <div class="scroll" tabindex="0" role="region" aria-label="Usage"><table>
      <thead><tr>${operator ? head("tenant") : nothing}${head("key")}${head("prompts", "n")}${head("tokens in", "n parts")}${head("cached", "n cached")}
        ${head("tokens out", "n parts")}${head("tokens", "n")}<td class="share"></td>${head("cost", "n")}</tr></thead>
      <tbody>${rows.map((row) => html`<tr>${operator ? html`<td class="name">${row.tenantId}</td>` : nothing}<td class="name">${row.keyId}</td>${cells(row)}
        <td class="share">${share(row.totalTokens / most)}</td><td class="n">${dollars(row.costUsd)}</td></tr>`)}</tbody>
      <tfoot><tr>${operator ? html`<td></td>` : nothing}<th scope="row">all</th>${cells(all)}<td class="share"></td><td class="n">${dollars(all.costUsd)}</td></tr></tfoot></table></div>`;
  }
}

const amount = (budget, value) => (/usd|cost/.test(budget.budget) ? dollars(value) : figure(value));

function totals(rows) {
  return Object.fromEntries(SUMS.map((name) => [name, rows.reduce((sum, row) => sum + row[name], 0)]));
}
