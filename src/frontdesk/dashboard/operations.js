// Why sessions ended, the nodes, and what was used.

import { html, nothing } from "./lit-html/lit-html.js";
import { ask } from "./api.js";
import { attempt, confirmed, csv, download, notify, stateOf } from "./parts.js";
import { dollars, duration, figure, isFailure, moment, told, why } from "./words.js";

const AGAIN_MS = 5000;

/** A page that asks for what it shows, and again while it is looked at. */
class AskingPage {
  constructor(app, parts, query) {
    this.app = app;
    this.said = null;
    this.error = null;
    app.feed.open("");
    this.follow(parts, query);
  }

  follow(_, query) {
    this.query = query;
    this.load();
    return true;
  }

  close() {
    clearTimeout(this.timer);
    this.closed = true;
  }

  async load() {
    clearTimeout(this.timer);
    try {
      this.said = await this.asks();
      this.error = null;
    } catch (error) {
      this.error = error;
    }
    if (this.closed) return;
    this.app.draw();
    this.timer = setTimeout(() => (document.hidden ? undefined : this.load()), AGAIN_MS);
  }

  view() {
    return html`<div class="title"><h1>${this.title}</h1>${this.more?.() ?? nothing}</div>
      ${this.error ? html`<p class="error" role="alert">${told(this.error)}</p>` : nothing}
      ${this.said ? this.content(this.said) : this.error ? nothing : html`<p class="empty">Loading …</p>`}`;
  }
}

export class EndsPage extends AskingPage {
  title = "Ends";

  constructor(app, parts, query) {
    super(app, parts, query);
    this.onGone = () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.load(), 300);
    };
    app.feed.addEventListener("gone", this.onGone);
  }

  close() {
    this.app.feed.removeEventListener("gone", this.onGone);
    super.close();
  }

  asks() {
    return ask("GET", this.app.me.operator ? "ops/ends" : "v1/ends");
  }

  content({ ends }) {
    const { operator } = this.app.me;
    const kind = this.query.get("reason") ?? "";
    const shown = ends.filter((end) => !kind || end.reason.startsWith(kind));
    const kinds = [...new Set(ends.map((end) => /^[a-z_]+/.exec(end.reason)?.[0] ?? end.reason))].sort();
    if (!ends.length) return html`<p class="empty">No session has ended since the gateway began.</p>`;
    return html`<form class="controls"><label>reason <select @change=${(event) => { location.hash = event.target.value ? `#/ends?reason=${event.target.value}` : "#/ends"; }}>
        <option value="">all</option>${kinds.map((each) => html`<option ?selected=${each === kind}>${each}</option>`)}</select></label></form>
      <div class="scroll" tabindex="0" role="region" aria-label="Ends"><table>
        <thead><tr><th scope="col">ended</th><th scope="col">session</th>${operator ? html`<th scope="col">tenant</th>` : nothing}
          <th scope="col">reason</th><th scope="col" class="n">lived</th><th scope="col" class="n">turns</th><th scope="col" class="n">tokens</th><th scope="col">in the log</th></tr></thead>
        <tbody>${shown.slice(0, 1000).map((end) => html`<tr>
          <td title=${moment(end.at)}>${duration(this.app.feed.now() - end.at)} ago</td>
          <td class="id">${end.sessionId}</td>${operator ? html`<td>${end.tenantId}</td>` : nothing}
          <td class="why">${stateOf(isFailure(end.reason) ? "failed" : "ended", end.reason)}<span>${why(end.reason)}</span></td>
          <td class="n">${duration(end.ageMs)}</td><td class="n">${figure(end.turns)}</td><td class="n">${figure(end.tokens)}</td>
          <td><code>${end.logId}</code></td></tr>`)}</tbody></table></div>`;
  }
}

export class NodesPage extends AskingPage {
  title = "Nodes";

  asks() {
    return ask("GET", "ops/nodes");
  }

  content({ nodes }) {
    if (!nodes.length) return html`<p class="empty">This gateway is alone. With <code>--workers</code> or <code>--cluster</code> its nodes are listed here.</p>`;
    const digests = new Set(nodes.map((node) => node.configDigest));
    return html`${digests.size > 1 ? html`<p class="error" role="status">The configurations differ: keys, blueprints or limits are not the same on all nodes.</p>` : nothing}
      <div class="scroll" tabindex="0" role="region" aria-label="Nodes"><table>
        <thead><tr><th scope="col">node</th><th scope="col">state</th><th scope="col" class="n">lease left</th><th scope="col" class="n">sessions</th>
          <th scope="col">version</th><th scope="col">configuration</th><th scope="col"><span class="hidden">actions</span></th></tr></thead>
        <tbody>${nodes.map((node) => html`<tr>
          <td class="id">${node.name}${node.answering ? html` <small>answers here</small>` : nothing}</td>
          <td>${stateOf(node.state === "alive" ? (node.draining ? "stopping" : "idle") : "suspect", node.draining ? "draining" : node.state)}</td>
          <td class="n">${node.leaseLeftMs > 0 ? duration(node.leaseLeftMs) : "over"}</td><td class="n">${figure(node.sessions)}</td>
          <td>${node.version}</td><td><code>${node.configDigest.slice(0, 8)}</code></td>
          <td>${node.draining ? nothing : html`<button @click=${() => this.drain(node)}>Drain</button>`}</td></tr>`)}</tbody></table></div>`;
  }

  async drain(node) {
    const sure = await confirmed("Drain this node?", html`<b>${node.name}</b> opens no more sessions; its ${figure(node.sessions)} go on. It stays so until it is started again.`, "Drain it");
    if (!sure) return;
    if (await attempt(() => ask("POST", `ops/nodes/${encodeURIComponent(node.name)}/drain`))) notify(`${node.name} drains.`);
    this.load();
  }
}

export class UsagePage extends AskingPage {
  title = "Usage";

  asks() {
    return ask("GET", this.app.me.operator ? "ops/usage" : "v1/usage?by=key");
  }

  rows() {
    const { rows = [] } = this.said ?? {};
    return rows.map((row) => ({ tenant: row.tenantId ?? this.app.me.tenantId, key: row.keyId ?? "", ...row }));
  }

  more() {
    return html`<button @click=${() => this.save()} ?disabled=${!this.said}>Save as CSV</button>`;
  }

  save() {
    const columns = ["tenant", "key", "prompts", "promptTokens", "completionTokens", "cachedTokens", "totalTokens", "costUsd", "unknownTurns"];
    download("frontdesk-usage.csv", csv(columns, this.rows().map((row) => columns.map((name) => row[name]))));
  }

  content() {
    const rows = this.rows();
    if (!rows.length) return html`<p class="empty">Nothing has been used yet.</p>`;
    const sum = (name) => rows.reduce((total, row) => total + row[name], 0);
    const cells = (row) => html`<td class="n">${figure(row.prompts)}</td><td class="n">${figure(row.promptTokens)}</td>
      <td class="n">${figure(row.completionTokens)}</td><td class="n">${figure(row.totalTokens)}</td><td class="n">${dollars(row.costUsd)}</td>`;
    const totals = Object.fromEntries(["prompts", "promptTokens", "completionTokens", "totalTokens", "costUsd"].map((name) => [name, sum(name)]));
    return html`<div class="scroll" tabindex="0" role="region" aria-label="Usage"><table>
      <thead><tr>${this.app.me.operator ? html`<th scope="col">tenant</th>` : nothing}<th scope="col">key</th><th scope="col" class="n">prompts</th>
        <th scope="col" class="n">tokens in</th><th scope="col" class="n">tokens out</th><th scope="col" class="n">tokens</th><th scope="col" class="n">cost</th></tr></thead>
      <tbody>${rows.map((row) => html`<tr>${this.app.me.operator ? html`<td>${row.tenant}</td>` : nothing}<td class="id">${row.key}</td>${cells(row)}</tr>`)}</tbody>
      <tfoot><tr>${this.app.me.operator ? html`<td></td>` : nothing}<th scope="row">all</th>${cells(totals)}</tr></tfoot></table></div>`;
  }
}
