// Why sessions ended, the nodes, and what was used.

import { html, nothing, svg } from "./lit-html/lit-html.js";
import { repeat } from "./lit-html/directives/repeat.js";
import { ask } from "./api.js";
import { attempt, confirmed, csv, download, notify, stateOf } from "./parts.js";
import { dollars, duration, figure, isFailure, moment, told, why } from "./words.js";

const AT_MOST = 100;
const SPARE = 20;

const head = (name, kind = "") => html`<th scope="col" class=${kind}>${name}</th>`;
const cell = (value, kind = "") => html`<td class=${kind}>${value}</td>`;
const fact = (name, value) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
/** A part of the most there is, as a bar beside its figure. */
const share = (part) => cell(html`<svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">${svg`<rect width=${part * 100} height="6"></rect>`}</svg>`, "share");
const table = (name, heads, rows, foot = nothing) => html`<div class="scroll" tabindex="0" role="region" aria-label=${name}><table>
  <thead><tr>${heads}</tr></thead><tbody>${rows}</tbody>${foot}</table></div>`;

/** A page that asks for what it shows, and again while it is looked at. */
class AskingPage {
  againMs = 5000;

  constructor(app, _, query) {
    this.app = app;
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
    const number = ++this.asked;
    const answer = await this.asks().then((said) => ({ said, error: null }), (error) => ({ error }));
    // A later question has been asked, or the page is another one.
    if (number !== this.asked) return;
    Object.assign(this, answer);
    this.app.draw();
    if (!document.hidden) this.timer = setTimeout(() => this.load(), this.againMs);
  }

  view() {
    const { error, said } = this;
    // Where something is shown already, that the gateway is silent is said above it.
    const refused = error && !(said && error.status === 0);
    return html`<div class="title"><h1>${this.title}</h1>${said ? this.summary(said) : nothing}</div>
      ${refused ? html`<p class="error" role="alert">${told(error)}</p>` : nothing}
      ${said ? this.content(said) : error ? nothing : html`<p class="empty">Loading …</p>`}`;
  }
}

const ENDS_BY = { reason: (end) => /^\w+/.exec(end.reason)[0], tenant: (end) => end.tenantId };

export class EndsPage extends AskingPage {
  title = "Ends";
  againMs = 30_000;
  scrolled = 0;
  rowHeight = 37;

  constructor(app, parts, query) {
    super(app, parts, query);
    // Many may go at once: they are asked for together.
    this.onGone = () => {
      this.soon ??= setTimeout(() => {
        this.soon = null;
        this.load();
      }, 500);
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
    if (value) this.query.set(name, value);
    else this.query.delete(name);
    history.replaceState(null, "", `#/ends?${this.query}`);
    this.scrolled = 0;
    document.querySelector(".rows")?.scrollTo(0, 0);
    this.app.draw();
  }

  summary({ ends, partial }) {
    const failed = ends.filter((end) => isFailure(end.reason)).length;
    return html`<p class="summary">the last <b>${figure(ends.length)}</b> · <b class=${failed ? "bad" : ""}>${figure(failed)}</b> by a failure${partial ? " · those of a node that does not answer are missing" : nothing}</p>`;
  }

  content({ ends }) {
    if (!ends.length) return html`<p class="empty">No session has ended since the gateway began.</p>`;
    const search = (this.query.get("q") ?? "").toLowerCase();
    const wanted = Object.entries(ENDS_BY).filter(([name]) => this.query.get(name));
    const shown = ends.filter((end) => (end.sessionId.toLowerCase().includes(search) || end.logId === search)
      && wanted.every(([name, of]) => of(end) === this.query.get(name)));
    return html`<form class="controls" role="search" @submit=${(event) => event.preventDefault()}>
        <input type="search" aria-label="Search for a session or a log id" placeholder="session or log id" .value=${this.query.get("q") ?? ""}
          @input=${(event) => this.set("q", event.target.value)} autocomplete="off" spellcheck="false">
        ${Object.entries(ENDS_BY).map(([name, of]) => this.choice(name, ends.map(of)))}
      </form>
      ${shown.length ? this.rows(shown) : html`<p class="empty">None of ${figure(ends.length)} ends matches.</p>`}`;
  }

  choice(name, all) {
    const chosen = this.query.get(name) ?? "";
    const values = [...new Set([...all, chosen])].filter(Boolean).sort();
    if (values.length < 2 && !chosen) return nothing;
    return html`<select aria-label=${name} class=${chosen ? "chosen" : ""} @change=${(event) => this.set(name, event.target.value)}>
      <option value="" .selected=${!chosen}>every ${name}</option>
      ${values.map((value) => html`<option value=${value} .selected=${value === chosen}>${value}</option>`)}</select>`;
  }

  rows(ends) {
    const { operator } = this.app.me;
    const visible = Math.min(AT_MOST, Math.ceil((this.height ?? 800) / this.rowHeight) + SPARE);
    const first = Math.max(0, Math.min(Math.floor(this.scrolled / this.rowHeight) - SPARE / 2, ends.length - visible));
    const space = (n) => (n > 0 ? html`<tr class="space" aria-hidden="true"><td .style=${`height: ${n * this.rowHeight}px`}></td></tr>` : nothing);
    const now = this.app.feed.now();
    return html`<div class="rows ends" tabindex="0" role="region" aria-label="Ends" @scroll=${({ target }) => {
      this.scrolled = target.scrollTop;
      this.height = target.clientHeight;
      this.app.draw();
    }}><table aria-rowcount=${ends.length + 1} aria-label="Ends">
        <thead><tr aria-rowindex="1">${head("ended")}${head("session")}${operator ? head("tenant") : nothing}${head("reason")}${head("blueprint", "b")}
          ${head("lived", "n")}${head("turns", "n turns")}${head("tokens", "n tokens")}${head("log id", "log")}</tr></thead>
        <tbody>${space(first)}${repeat(ends.slice(first, first + visible), (end) => end.logId, (end, at) => html`<tr aria-rowindex=${first + at + 2}>
          <td class="when" title=${moment(end.at)}>${duration(now - end.at)} ago</td><td class="id" title=${end.sessionId}>${end.sessionId}</td>
          ${operator ? cell(end.tenantId, "t") : nothing}
          <td class="why" title=${end.reason}>${stateOf(isFailure(end.reason) ? "failed" : "ended", end.reason)} <span>${why(end.reason)}</span></td>
          ${cell(end.blueprint, "b")}${cell(duration(end.ageMs), "n")}${cell(figure(end.turns), "n turns")}${cell(figure(end.tokens), "n tokens")}
          ${cell(html`<code>${end.logId}</code>`, "log")}</tr>`)}${space(ends.length - first - visible)}</tbody></table></div>`;
  }

  drawn() {
    const row = document.querySelector(".rows tbody tr:not(.space)");
    this.rowHeight = row?.offsetHeight || this.rowHeight;
  }
}

const LOOKS = { alive: "idle", leaving: "stopping" };

export class NodesPage extends AskingPage {
  title = "Nodes";
  /** Nodes that were asked to drain: shown so until they say it themselves. */
  drains = new Set();

  async asks() {
    const { nodes } = await ask("GET", "ops/nodes");
    return { nodes, alone: nodes.length ? null : await ask("GET", "ops/status") };
  }

  summary({ nodes }) {
    const unwell = nodes.filter((node) => node.state !== "alive").length;
    const sessions = nodes.reduce((sum, node) => sum + node.sessions, 0);
    return nodes.length ? html`<p class="summary"><b>${nodes.length}</b> in all · <b class=${unwell ? "attention" : ""}>${unwell}</b> not well · <b>${figure(sessions)}</b> sessions</p>` : nothing;
  }

  content({ nodes, alone }) {
    if (alone) {
      return html`<p>This gateway is alone. With <code>--workers</code>, or with an engine for several machines, each node is listed here.</p>
        <dl class="facts">${fact("version", alone.version)}${fact("state", alone.draining ? "draining" : "takes sessions")}${fact("sessions", figure(alone.sessions))}
          ${fact("open streams", figure(alone.streams))}${fact("stuck turns", figure(alone.stuck))}${fact("keys", figure(alone.keys))}</dl>`;
    }
    const digest = usual(nodes.map((node) => node.configDigest));
    const version = usual(nodes.map((node) => node.version));
    const differing = nodes.filter((node) => node.configDigest !== digest);
    const most = Math.max(1, ...nodes.map((node) => node.sessions));
    const odd = (same, text) => cell(same ? text : html`<b class="differs">${text} differs</b>`, "parts");
    return html`${differing.length ? html`<p class="stale" role="status">Keys, blueprints or limits are not the same on every node: ${differing.map((node) => node.name).join(", ")}
        differ. Reload or restart with the same files.</p>` : nothing}
      ${table("Nodes", html`${head("node")}${head("state")}${head("sessions", "n")}${cell("", "share")}${head("lease left", "n parts")}${head("version", "parts")}${head("configuration", "parts")}<td></td>`,
        nodes.map((node) => html`<tr>${cell(html`${node.name} ${node.answering ? html`<small>answers here</small>` : nothing}`, "name")}${cell(this.state(node))}
          ${cell(figure(node.sessions), "n")}${share(node.sessions / most)}${cell(node.leaseLeftMs > 0 ? duration(node.leaseLeftMs) : html`<b class="differs">over</b>`, "n parts")}
          ${odd(node.version === version, node.version)}${odd(node.configDigest === digest, html`<code>${node.configDigest.slice(0, 8)}</code>`)}
          ${cell(this.drained(node) ? nothing : html`<button aria-label="Drain ${node.name}" @click=${() => this.drain(node)}>Drain</button>`, "n")}</tr>`))}`;
  }

  drained(node) {
    return node.draining || this.drains.has(node.incarnation);
  }

  state(node) {
    if (node.state === "alive" && this.drained(node)) return stateOf("stopping", node.draining ? "draining" : "drain asked for");
    return stateOf(LOOKS[node.state] ?? "suspect", node.state);
  }

  async drain(node) {
    const sure = await confirmed(`Drain ${node.name}?`, `It opens no more sessions; its ${figure(node.sessions)} go on until they end. It stays so until it is started again.`, "Drain it");
    if (!sure) return;
    if (await attempt(() => ask("POST", `ops/nodes/${encodeURIComponent(node.incarnation)}/drain`))) {
      this.drains.add(node.incarnation);
      notify(`${node.name} drains: it opens no more sessions.`);
    }
    this.load();
  }
}

/** What most have. */
function usual(values) {
  const counts = new Map();
  for (const each of values) counts.set(each, (counts.get(each) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0][0];
}

const SUMS = ["prompts", "promptTokens", "completionTokens", "cachedTokens", "totalTokens", "costUsd", "unknownTurns"];

export class UsagePage extends AskingPage {
  title = "Usage";
  againMs = 15_000;

  async asks() {
    const { operator, tenantId } = this.app.me;
    const said = await ask("GET", operator ? "ops/usage?limit=1000" : "v1/usage?by=key&limit=1000");
    const rows = said.rows.map((row) => ({ tenantId, ...row })).sort((a, b) => b.costUsd - a.costUsd || b.totalTokens - a.totalTokens);
    const all = Object.fromEntries(SUMS.map((name) => [name, rows.reduce((sum, row) => sum + row[name], 0)]));
    return { rows, all, budgets: said.budgets ?? [], more: said.next };
  }

  summary({ rows, all }) {
    const columns = ["tenantId", "keyId", ...SUMS];
    const save = () => download("frontdesk-usage.csv", csv(columns, rows.map((row) => columns.map((name) => row[name]))));
    return html`<p class="summary"><b>${figure(all.prompts)}</b> prompts · <b>${figure(all.totalTokens)}</b> tokens · <b>${dollars(all.costUsd)}</b></p>
      <button @click=${save} ?disabled=${!rows.length}>Save as CSV</button>`;
  }

  content({ rows, all, budgets, more }) {
    const tenant = (value) => (this.app.me.operator ? value : nothing);
    if (!rows.length) return html`<p class="empty">Nothing has been used yet. What prompts cost is counted here, key by key.</p>`;
    const most = Math.max(1, ...rows.map((row) => row.totalTokens));
    const cells = (row, bar) => html`${cell(figure(row.prompts), "n")}${cell(figure(row.promptTokens), "n parts")}${cell(figure(row.completionTokens), "n parts")}
      ${cell(figure(row.totalTokens), "n")}${bar}${cell(dollars(row.costUsd), "n")}`;
    const amount = (budget, value) => (/usd/.test(budget.budget) ? dollars(value) : figure(value));
    return html`${budgets.length ? html`<dl class="facts">${budgets.map((each) => fact(`${each.budget.replaceAll("_", " ")} of ${each.scope === "per_tenant" ? "the tenant" : "this key"}`,
        `${amount(each, each.left)} left of ${amount(each, each.limit)}, anew ${moment(each.resetsAt)}`))}</dl>` : nothing}
      ${more ? html`<p class="stale" role="status">There are more keys than these.</p>` : nothing}
      ${all.unknownTurns ? html`<p class="summary">What ${figure(all.unknownTurns)} turns used is not among it: their agents did not say.</p>` : nothing}
      ${table("Usage", html`${tenant(head("tenant"))}${head("key")}${head("prompts", "n")}${head("tokens in", "n parts")}${head("tokens out", "n parts")}${head("tokens", "n")}${cell("", "share")}${head("cost", "n")}`,
        rows.map((row) => html`<tr>${tenant(cell(row.tenantId, "name"))}${cell(row.keyId, "name")}${cells(row, share(row.totalTokens / most))}</tr>`),
        html`<tfoot><tr>${tenant(cell(""))}<th scope="row">all</th>${cells(all, cell("", "share"))}</tr></tfoot>`)}`;
  }
}
