// One session: what is said in it as it is said, what it waits for, and how it ended.

import { html, nothing } from "./lit-html/lit-html.js";
import { repeat } from "./lit-html/directives/repeat.js";
import { ask, pathOf, Problem } from "./api.js";
import { keyOf } from "./feed.js";
import { attempt, confirmed, notify, stateOf } from "./parts.js";
import { clock, dollars, duration, figure, isFailure, moment, STATES, told, why } from "./words.js";

const MOST_SHOWN = 200;
const MOST_KEPT = 2000;
const MOST_CHARACTERS = 200_000;
const NEAR_END_PX = 60;
const TYPES = [
  "prompt_received", "agent_start", "message_start", "message_delta", "thinking_start", "thinking_delta",
  "tool_calls", "tool_execution_start", "tool_execution_end", "approval_required", "approval_resolved", "ask_user",
  "error", "agent_abort", "agent_end", "model_switched", "option_changed", "steering", "tool_attached",
  "tool_detached", "agent_restarted", "out_of_turn", "session_end",
];

/** What was said, as blocks in order: made of events, one after another. */
export class Transcript {
  constructor() {
    this.blocks = [];
    this.number = 0;
    this.open = null;
    this.cut = 0;
    this.ended = null;
  }

  add(kind, more) {
    const block = { kind, key: this.number++, ...more };
    this.blocks.push(block);
    if (this.blocks.length > MOST_KEPT) this.cut += this.blocks.splice(0, MOST_KEPT / 10).length;
    this.open = null;
    return block;
  }

  /** More of a message or a thought; a very long one keeps its end. */
  more(kind, text) {
    if (this.open?.kind !== kind) this.open = this.add(kind, { text: "", open: true });
    const block = this.blocks.at(-1);
    this.open = block;
    block.text += text;
    if (block.text.length > MOST_CHARACTERS) block.text = `… ${block.text.slice(-MOST_CHARACTERS / 2)}`;
  }

  find(test) {
    return this.blocks.findLast(test);
  }

  take(name, said, at) {
    const asked = (block) => (block.kind === "approval" || block.kind === "question") && !block.answer;
    switch (name) {
      case "prompt_received": return void this.add("user", { text: said.text, files: said.attachments ?? [], at });
      case "message_start": case "thinking_start": this.open = null; return undefined;
      case "message_delta": return this.more("message", said.delta);
      case "thinking_delta": return this.more("thought", said.delta);
      case "tool_execution_start":
        return void this.add("tool", { id: said.callId, name: said.toolName, args: said.args });
      case "tool_execution_end": {
        const tool = this.find((block) => block.kind === "tool" && block.id === said.callId)
          ?? this.add("tool", { id: said.callId, name: said.toolName });
        return void Object.assign(tool, { status: said.status, result: said.result, took: said.durationMs });
      }
      case "approval_required":
        return void this.add("approval", { id: said.approvalId, name: said.toolName, args: said.args, hint: said.hint, details: said.details });
      case "approval_resolved": {
        const approval = this.find((block) => block.kind === "approval" && block.id === said.approvalId);
        if (approval) approval.answer = said.status;
        return undefined;
      }
      case "ask_user": return void this.add("question", { id: said.ref, text: said.question });
      case "steering": return void this.add("user", { text: said.text, steering: true });
      case "error":
        return void this.add("note", said.reason === "gap"
          ? { text: "Earlier events are no longer held." } : { text: `Error: ${said.reason}`, failed: true });
      case "agent_end": case "agent_abort":
        this.blocks.filter(asked).forEach((block) => { block.answer = "over"; });
        return void (name === "agent_abort"
          ? this.add("note", { text: `The turn was cut short: ${said.reason}`, failed: said.reason !== "aborted" })
          : this.add("end", { tokens: said.tokenUsage?.totalTokens ?? null }));
      case "agent_restarted": return void this.add("note", { text: `Another agent took over (${said.reason}), number ${said.count}.` });
      case "model_switched": return void this.add("note", { text: `The model is ${said.to} now.` });
      case "option_changed": return void this.add("note", { text: `${said.optionId} is ${said.value} now.` });
      case "tool_attached": return void this.add("note", { text: `The tool ${said.name} was attached.` });
      case "tool_detached": return void this.add("note", { text: `The tool ${said.name} was taken away.` });
      case "out_of_turn": return void this.add("note", { text: said.text });
      case "session_end": this.ended = said.reason; return undefined;
      default: return undefined;
    }
  }
}

/** A value of a tool as text, bounded. */
function shown(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return text.length > 20_000 ? `${text.slice(0, 20_000)} …` : text;
}

export class SessionPage {
  constructor(app, parts, query) {
    this.app = app;
    this.tenant = app.me.operator ? parts[0] : null;
    this.id = parts.at(-1) ?? "";
    this.key = keyOf({ tenantId: app.me.operator ? parts[0] : app.me.tenantId, sessionId: this.id });
    this.mayRead = app.me.scopes.includes("read") && (!app.me.operator || app.me.readsText);
    this.stickToEnd = true;
    this.asked = null;
    this.earlier = false;
    this.gone = null;
    this.missing = null;
    app.feed.open("");
    this.onGone = (event) => {
      if (keyOf(event.detail) === this.key) this.ends(event.detail);
    };
    app.feed.addEventListener("gone", this.onGone);
    this.begin(query);
  }

  close() {
    this.source?.close();
    clearTimeout(this.retry);
    this.app.feed.removeEventListener("gone", this.onGone);
  }

  can(scope) {
    return this.app.me.scopes.includes(scope) && !this.over;
  }

  get over() {
    return this.gone !== null || this.transcript?.ended || this.missing;
  }

  get row() {
    return this.app.feed.rows.get(this.key) ?? this.app.feed.ended.get(this.key);
  }

  async begin() {
    this.transcript = new Transcript();
    try {
      this.summary = await ask("GET", pathOf(this.tenant, this.id));
    } catch (error) {
      if (error instanceof Problem && (error.status === 404 || error.status === 410)) {
        this.missing = error;
        if (error.code === "session_dead") this.transcript.ended = error.facts.reason ?? "ended";
      }
    }
    if (this.mayRead && !(this.missing && this.missing.code !== "session_dead")) this.listen("0");
    this.app.draw();
  }

  listen(since) {
    const source = new EventSource(`${pathOf(this.tenant, this.id, "/events")}?since=${encodeURIComponent(since)}`);
    this.source = source;
    this.lastId = since;
    for (const name of TYPES) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) this.lastId = event.lastEventId;
        if (!(event instanceof MessageEvent) || event.data === undefined) return;
        this.transcript.take(name, JSON.parse(event.data), this.app.feed.now());
        if (name === "session_end") source.close();
        this.app.draw();
      });
    }
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED || this.transcript.ended) return;
      this.retry = setTimeout(() => this.listen(this.lastId), 1000 + Math.random() * 2000);
    };
  }

  ends(end) {
    this.gone = end;
    this.transcript.ended ??= end.reason;
    this.app.draw();
  }

  // -- what can be asked ---------------------------------------------------------------------------

  async send(event) {
    event.preventDefault();
    const box = event.target.elements.text;
    const text = box.value.trim();
    if (!text) return;
    const steer = this.row?.state === "working" && event.submitter?.value === "steer";
    const done = await attempt(() => ask("POST", pathOf(this.tenant, this.id, steer ? "/steer" : "/prompt"), { text }));
    if (!done) return;
    box.value = "";
    this.stickToEnd = true;
    if (done.queued) notify("It waits for the turn under way.");
  }

  async answer(block, verb) {
    block.asked = verb;
    this.app.draw();
    const done = await attempt(() => ask("POST", pathOf(this.tenant, this.id, `/${verb}`), { approvalId: block.id }));
    if (!done) block.asked = null;
    this.app.draw();
  }

  async respond(event, block) {
    event.preventDefault();
    const response = event.target.elements.response.value;
    const done = await attempt(() => ask("POST", pathOf(this.tenant, this.id, "/respond"), { ref: block.id, response }));
    if (done) block.answer = response;
    this.app.draw();
  }

  async abort() {
    this.asked = "aborting";
    this.app.draw();
    await attempt(() => ask("POST", pathOf(this.tenant, this.id, "/abort"), {}));
    this.asked = null;
    this.app.draw();
  }

  async stop() {
    const sure = await confirmed("End this session?", html`<b>${this.id}</b> ends for everybody, with the turn under way. That cannot be undone.`, "End it");
    if (!sure) return;
    this.asked = "stopping";
    this.app.draw();
    const operator = this.app.me.operator;
    const done = await attempt(() => ask(operator ? "POST" : "DELETE", pathOf(this.tenant, this.id, operator ? "/stop" : "")));
    if (!done) this.asked = null;
    this.app.draw();
  }

  // -- how it looks --------------------------------------------------------------------------------

  view() {
    const row = this.row;
    const known = row ?? this.summary;
    const state = this.over ? "ended" : (this.asked ?? row?.state ?? "idle");
    const word = this.over ? "ended" : (this.asked ?? STATES[row?.state] ?? "idle");
    const actor = this.app.me.operator || this.can("delete");
    return html`<div class="title">
        <p class="back"><a href="#/sessions">Sessions</a></p>
        <h1>${this.id}</h1>
        ${stateOf(state, word)}
        <span class="buttons">
          ${this.over || !["working", "waiting_approval", "waiting_input"].includes(row?.state) || !(this.app.me.operator || this.can("prompt"))
            ? nothing : html`<button @click=${() => this.abort()} ?disabled=${this.asked !== null}>Abort the turn</button>`}
          ${this.over || !actor ? nothing : html`<button class="danger" @click=${() => this.stop()} ?disabled=${this.asked !== null}>End session</button>`}
        </span>
      </div>
      ${known ? this.facts(known, row) : nothing}
      ${this.mayRead ? this.said() : html`<p class="empty">What is said in it is its tenant's. An operator sees it where the configuration says <code>operators_read_text = true</code>.</p>`}
      ${this.ending()}
      ${this.mayRead && this.can("prompt") && !this.app.me.operator ? this.box(row) : nothing}`;
  }

  facts(known, row) {
    const now = this.app.feed.now();
    const tokens = row ? row.tokens : known.totalTokens;
    const pairs = [
      ...(this.tenant === null ? [] : [["tenant", this.tenant]]),
      ["blueprint", known.blueprint], ["model", known.model],
      ["age", html`<span title=${moment(known.createdAt)}>${duration(now - known.createdAt)}</span>`],
      ["turns", figure(known.turns)], ["tokens", figure(tokens ?? 0)],
      ...(row ? [["cost", dollars(row.costUsd)], ["node", row.node], ["key", row.keyId]] : []),
    ];
    return html`<dl class="facts">${pairs.filter(([, value]) => value || value === 0).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
  }

  said() {
    if (this.missing && this.missing.code !== "session_dead") return html`<p class="empty">${told(this.missing)}</p>`;
    const { blocks, cut } = this.transcript;
    const from = this.earlier ? 0 : Math.max(0, blocks.length - MOST_SHOWN);
    return html`<section class="transcript" tabindex="0" role="log" aria-label="What is said" @scroll=${(event) => this.scroll(event)}>
      ${cut ? html`<p class="note">The first ${figure(cut)} entries are no longer shown here.</p>` : nothing}
      ${from ? html`<p class="note"><button class="quiet" @click=${() => { this.earlier = true; this.app.draw(); }}>Show ${figure(from)} earlier entries</button></p>` : nothing}
      ${blocks.length ? nothing : html`<p class="empty">Nothing has been said yet.</p>`}
      ${repeat(blocks.slice(from), (block) => block.key, (block) => this.block(block))}
    </section>
    ${this.stickToEnd ? nothing : html`<button class="to-end" @click=${() => { this.stickToEnd = true; this.app.draw(); }}>To the end</button>`}`;
  }

  block(block) {
    switch (block.kind) {
      case "user": return html`<article class="user"><h2>${block.steering ? "added meanwhile" : "prompt"}</h2><p>${block.text}</p>
        ${(block.files ?? []).map((file) => html`<p class="file">${file.name} (${file.mediaType})</p>`)}</article>`;
      case "message": return html`<article class="message"><h2>agent</h2><p>${block.text}</p></article>`;
      case "thought": return html`<details class="thought"><summary>thinks</summary><p>${block.text}</p></details>`;
      case "tool": return html`<details class="tool ${block.status ?? "running"}">
        <summary>${stateOf(block.status ? (block.status === "ok" || block.status === "success" ? "idle" : "failed") : "working", block.name)}
          <span>${block.status ?? "runs"}${block.took ? ` · ${block.took < 1000 ? `${block.took} ms` : duration(block.took)}` : ""}</span></summary>
        ${block.args === undefined || block.args === null ? nothing : html`<h3>arguments</h3><pre>${shown(block.args)}</pre>`}
        ${block.result === undefined || block.result === null ? nothing : html`<h3>result</h3><pre>${shown(block.result)}</pre>`}</details>`;
      case "approval": return this.approval(block);
      case "question": return this.question(block);
      case "end": return html`<p class="end">${block.tokens === null ? "end of the turn" : `end of the turn · ${figure(block.tokens)} tokens`}</p>`;
      default: return html`<p class="note ${block.failed ? "failed" : ""}">${block.text}</p>`;
    }
  }

  approval(block) {
    const may = this.can("approve") && !this.app.me.operator;
    const open = !block.answer && !this.over;
    return html`<article class="asks ${open ? "open" : ""}">
      <h2>${open ? "needs approval" : `approval: ${block.answer === "over" ? "not answered in time" : (block.answer ?? "over")}`}</h2>
      <p><b>${block.details?.title ?? block.name}</b>${block.hint ? html` – ${block.hint}` : nothing}</p>
      ${block.args === null || block.args === undefined ? nothing : html`<pre>${shown(block.args)}</pre>`}
      ${(block.details?.content ?? []).slice(0, 8).map((each) => html`<pre>${each.path ? `${each.path}\n` : ""}${shown(each.newText ?? each.text ?? each)}</pre>`)}
      ${open && may ? html`<p class="buttons">
        <button class="primary" ?disabled=${block.asked} @click=${() => this.answer(block, "approve")}>${block.asked === "approve" ? "Approving …" : "Approve"}</button>
        <button ?disabled=${block.asked} @click=${() => this.answer(block, "reject")}>${block.asked === "reject" ? "Rejecting …" : "Reject"}</button></p>` : nothing}
    </article>`;
  }

  question(block) {
    const open = !block.answer && !this.over && (this.row?.questions ?? 1) > 0;
    return html`<article class="asks ${open ? "open" : ""}">
      <h2>${open ? "asks a question" : "question"}</h2><p>${block.text}</p>
      ${block.answer && block.answer !== "over" ? html`<p class="given">${block.answer}</p>` : nothing}
      ${open && this.can("prompt") && !this.app.me.operator ? html`<form class="reply" @submit=${(event) => this.respond(event, block)}>
        <label class="hidden" for="r${block.key}">Your answer</label>
        <input id="r${block.key}" name="response" required maxlength="20000" placeholder="Your answer" autocomplete="off">
        <button class="primary">Answer</button></form>` : nothing}
    </article>`;
  }

  ending() {
    const reason = this.transcript?.ended ?? this.gone?.reason;
    if (!reason) return nothing;
    const id = this.gone?.logId;
    return html`<section class="ending ${isFailure(reason) ? "failed" : ""}" role="status">
      <h2>This session has ended</h2>
      <p>${why(reason)}</p>
      <p><code>${reason}</code>${this.gone?.at ? ` at ${clock(this.gone.at)}` : ""}${id ? html` · in the log: <code>${id}</code>` : nothing}</p>
    </section>`;
  }

  box(row) {
    const working = row?.state === "working";
    return html`<form class="prompt" @submit=${(event) => this.send(event)}>
      <label class="hidden" for="text">Prompt</label>
      <textarea id="text" name="text" rows="2" placeholder="Ask something (Enter sends, Shift+Enter is a new line)"
        @keydown=${(event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); event.target.form.requestSubmit(); } }}></textarea>
      <button class="primary" value="prompt">Send</button>
      ${working ? html`<button value="steer" title="The turn under way takes it into account">Add to this turn</button>` : nothing}
    </form>`;
  }

  scroll(event) {
    const box = event.target;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
    if (atEnd !== this.stickToEnd) {
      this.stickToEnd = atEnd;
      this.app.draw();
    }
  }

  drawn() {
    const box = document.querySelector(".transcript");
    if (box && this.stickToEnd) box.scrollTop = box.scrollHeight;
  }
}
