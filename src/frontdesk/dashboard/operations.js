// Why sessions ended, the nodes, and what was used.

import { html, nothing, svg } from "./lit-html/lit-html.js";
import { ask } from "./api.js";
import { attempt, confirmed, csv, download, List, notify, stateOf } from "./parts.js";
import { dollars, duration, figure, isFailure, moment, plain, told, why } from "./words.js";

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
  list = new List(this, "ends", ENDS_BY);

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

  summary({ ends, partial }) {
    const failed = ends.filter((end) => isFailure(end.reason)).length;
    return html`<p class="summary">the last <b>${figure(ends.length)}</b> · <b class=${failed ? "bad" : ""}>${figure(failed)}</b> by a failure${partial ? " · those of a node that does not answer are missing" : nothing}</p>`;
  }

  content({ ends }) {
    if (!ends.length) return html`<p class="empty">No session has ended since the gateway began.</p>`;
    const search = this.list.get("q").toLowerCase();
    const shown = this.list.chosen(ends).filter((end) => end.sessionId.toLowerCase().includes(search) || end.logId === search);
    return html`${this.list.controls(ends, "Session or log id")}
      ${shown.length ? this.table(shown) : html`<p class="empty">None of ${figure(ends.length)} ends matches. <a href="#/ends">Show all</a></p>`}`;
  }

  table(ends) {
    const now = this.app.feed.now();
    return this.list.table(ends, (end) => end.logId, [
      ["ended", "when", (end) => html`<span title=${moment(end.at)}>${duration(now - end.at)} ago</span>`],
      ["session", "id", (end) => plain(end.sessionId)],
      ...(this.app.me.operator ? [["tenant", "t", (end) => plain(end.tenantId)]] : []),
      ["reason", "why", (end) => html`${stateOf(isFailure(end.reason) ? "failed" : "ended", plain(end.reason))} <span>${why(end.reason)}</span>`],
      ["blueprint", "b", (end) => plain(end.blueprint)],
      ["lived", "n", (end) => duration(end.ageMs)],
      ["turns", "n turns", (end) => figure(end.turns)],
      ["tokens", "n tokens", (end) => figure(end.tokens)],
      ["log id", "log", (end) => html`<code>${end.logId}</code>`],
    ]);
  }

  drawn() {
    this.list.drawn();
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
    const unwell = nodes.filter((node) => node.state !== "alive" || node.leaseLeftMs <= 0).length;
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
    if (!rows.length) return html`<p class="empty">Nothing was used yet.</p>`;
    const most = Math.max(1, ...rows.map((row) => row.totalTokens));
    const cells = (row, bar) => html`${cell(figure(row.prompts), "n parts")}${cell(figure(row.promptTokens), "n parts")}${cell(figure(row.completionTokens), "n parts")}
      ${cell(figure(row.totalTokens), "n")}${bar}${cell(dollars(row.costUsd), "n")}`;
    const amount = (budget, value) => (/usd/.test(budget.budget) ? dollars(value) : figure(value));
    return html`${budgets.length ? html`<dl class="facts">${budgets.map((each) => fact(`${each.budget.replaceAll("_", " ")} of ${each.scope === "per_tenant" ? "the tenant" : "this key"}`,
        `${amount(each, each.left)} left of ${amount(each, each.limit)}, anew ${moment(each.resetsAt)}`))}</dl>` : nothing}
      ${more ? html`<p class="stale" role="status">There are more keys than these.</p>` : nothing}
      ${all.unknownTurns ? html`<p class="summary">What ${figure(all.unknownTurns)} turns used is not among it: their agents did not say.</p>` : nothing}
      ${table("Usage", html`${tenant(head("tenant"))}${head("key")}${head("prompts", "n parts")}${head("tokens in", "n parts")}${head("tokens out", "n parts")}${head("tokens", "n")}${cell("", "share")}${head("cost", "n")}`,
        rows.map((row) => html`<tr>${tenant(cell(row.tenantId, "name"))}${cell(row.keyId, "name")}${cells(row, share(row.totalTokens / most))}</tr>`),
        html`<tfoot><tr>${tenant(cell(""))}<th scope="row">all</th>${cells(all, cell("", "share"))}</tr></tfoot>`)}`;
  }
}
