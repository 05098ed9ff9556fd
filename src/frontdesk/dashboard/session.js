// One session: what is said in it as it is said, what it waits for, and how it ended.

import { html, nothing } from "./lit-html/lit-html.js";
import { repeat } from "./lit-html/directives/repeat.js";
import { ask, pathOf } from "./api.js";
import { keyOf } from "./feed.js";
import { attempt, endSession, notify, stateOf } from "./parts.js";
import { entryOf, SessionStream, Transcript } from "./transcript.js";
import { clock, dollars, duration, figure, isFailure, moment, plain, STATES, told, why } from "./words.js";

const WINDOW = 150;
const STEP = 100;
const NEAR_END_PX = 60;
const SOON_MS = 250;
const NOW_AND_THEN_MS = 10_000;
const MOST_MESSAGES = 5000;

export class SessionPage {
  constructor(app, parts) {
    const { me, feed } = app;
    this.app = app;
    this.id = parts.at(-1) ?? "";
    this.tenant = me.operator ? parts[0] : null;
    this.key = keyOf({ tenantId: this.tenant ?? me.tenantId, sessionId: this.id });
    this.mayRead = me.readsText && me.scopes.includes("read");
    this.gone = feed.ended.get(this.key) ?? null;
    this.known = feed.rows.get(this.key) ?? this.gone;
    this.asked = this.missing = null;
    this.queue = [];
    this.waiting = 0;
    this.onGone = (event) => keyOf(event.detail) === this.key && this.ends(event.detail);
    feed.addEventListener("gone", this.onGone);
    this.begin();
  }

  close() {
    this.closed = true;
    this.stream?.close();
    clearTimeout(this.timer);
    this.app.feed.removeEventListener("gone", this.onGone);
  }

  /** What the key may do; an operator's aborts and stops. */
  can(scope) {
    const { operator, scopes } = this.app.me;
    if (this.over) return false;
    return operator ? /abort|delete/.test(scope) : scopes.includes(scope === "abort" ? "prompt" : scope);
  }

  get over() {
    return Boolean(this.transcript.ended || this.missing);
  }

  path(rest = "") {
    return pathOf(this.tenant, this.id, rest);
  }

  /** Read from the beginning: by a stream of the session's own, or what the feed says of it. */
  begin() {
    this.stream?.close();
    this.stream = null;
    this.atEnd = true;
    this.first = 0;
    this.transcript = new Transcript();
    if (this.mayRead) {
      this.app.feed.close();
      this.stream = new SessionStream(this.path("/events"), this.transcript);
      for (const what of ["change", "fresh"]) this.stream.addEventListener(what, () => this.app.draw());
      this.stream.addEventListener("said", (event) => this.hears(event.detail));
      this.stream.addEventListener("lost", () => this.look(SOON_MS));
      this.stream.start();
    } else {
      this.transcript.ended = this.gone?.reason ?? null;
      this.app.feed.open("");
    }
    this.look(0);
  }

  hears({ name, said }) {
    this.queue = this.queue.filter((each) => each.requestId !== said.requestId);
    if (this.asked === "aborting" && /^agent_(end|abort)$/.test(name)) this.asked = null;
    if (name === "session_end") this.ends();
    else this.look(SOON_MS);
  }

  // -- what no event says

  look(inMs) {
    if (this.closed || this.over || this.dueMs <= inMs) return;
    clearTimeout(this.timer);
    this.dueMs = inMs;
    this.timer = setTimeout(async () => {
      this.dueMs = undefined;
      if (!document.hidden && !this.over) await this.asks();
      this.look(NOW_AND_THEN_MS);
    }, inMs);
  }

  /** Ask for its figures; by them a stream is found out that was cut without anybody's saying so. */
  async asks() {
    // To who may not read, the feed says it all.
    if (!this.mayRead && this.app.feed.rows.has(this.key)) return;
    try {
      const asked = this.tenant === null ? ["", "/stats", "/status"] : [""];
      const [summary, stats, status] = await Promise.all(asked.map((rest) => ask("GET", this.path(rest))));
      this.known = { ...this.known, tokens: summary.totalTokens, ...summary, ...(stats && { costUsd: stats.costUsd }) };
      if (status) this.compare(status);
    } catch (error) {
      if (error.status === 404 || error.status === 410) {
        this.missing = error;
        await this.ends();
      } else if (error.status === 0) this.stream?.lost();
    }
    this.app.draw();
  }

  compare({ state, queues, lastEventIndex, pendingQuestions }) {
    const { transcript, stream } = this;
    this.waiting = queues.prompts;
    // An answer that the stream has overtaken says what was before.
    if (stream?.index > lastEventIndex) return;
    if (!stream?.source || stream.index < lastEventIndex) {
      if (stream?.source && this.behind === stream.index) stream.lost();
      this.behind = stream?.index;
      return;
    }
    this.behind = undefined;
    transcript.state = state;
    for (const each of transcript.asking) {
      if (each.kind === "question" && !pendingQuestions.some(({ ref }) => ref === each.id)) each.answer = "It was answered elsewhere.";
    }
  }

  /** It has ended; when, and where that is in the log, is in the list of ends. */
  async ends(end) {
    this.gone ??= end;
    this.transcript.ended ??= end?.reason ?? this.missing?.facts.reason ?? null;
    this.asked = null;
    this.app.draw();
    const { me, feed } = this.app;
    const said = await ask("GET", me.operator ? "ops/ends" : "v1/ends").catch(() => null);
    const found = said?.ends.find((each) => keyOf(each) === this.key);
    if (this.closed) return;
    if (found) {
      this.gone = found;
      this.known = { createdAt: found.at - found.ageMs, ...found };
      this.transcript.ended ??= found.reason;
    }
    this.stream?.close();
    this.stream = null;
    feed.open("");
    this.app.draw();
  }

  /** Show more of what was said before: what is here already, or else the history. */
  async older() {
    const box = document.querySelector(".transcript");
    this.held = box.scrollHeight - box.scrollTop;
    this.atEnd = false;
    if (!this.first) {
      const messages = [];
      for (let after = ""; after !== null && messages.length < MOST_MESSAGES;) {
        const said = await attempt(() => ask("GET", this.path(`/messages?limit=1000&after=${encodeURIComponent(after)}`)));
        if (!said) return;
        messages.push(...said.messages);
        after = said.next;
      }
      this.first = this.transcript.prepend(messages);
      this.read = true;
      if (!this.first) notify("Nothing from before is held.");
    }
    this.first = Math.max(0, this.first - STEP);
    this.app.draw();
  }

  // -- what can be asked of it

  async send(event) {
    event.preventDefault();
    const box = event.target.elements.text;
    const text = box.value.trim();
    if (!text || this.sending) return;
    this.sending = true;
    const done = await attempt(() => ask("POST", this.path(event.submitter?.value === "steer" ? "/steer" : "/prompt"), { text }));
    this.sending = false;
    if (!done) return;
    box.value = "";
    if (done.queued) this.queue.push({ requestId: done.requestId, text });
    this.toEnd();
  }

  /** Answer what is asked; of an approval the stream says that it was taken. */
  async answer(entry, verb, body) {
    this.change(entry, { asked: verb });
    const done = await attempt(() => ask("POST", this.path(`/${verb}`), body));
    if (done && verb === "respond") this.transcript.answered(entry, body.response);
    this.change(entry, done ? {} : { asked: null });
    // What had the focus goes away: on to what is asked next, or to where one speaks.
    if (done) this.focus(".asks.open :is(button, input), #text");
  }

  change(entry, more) {
    Object.assign(entry, more);
    this.app.draw();
    if (more.refusing) this.focus(".reply input");
  }

  /** After the next drawing. */
  focus(what) {
    requestAnimationFrame(() => document.querySelector(what)?.focus());
  }

  async abort() {
    this.asked = "aborting";
    this.app.draw();
    const done = await attempt(() => ask("POST", this.path("/abort"), {}));
    if (!done || !this.mayRead) this.asked = null;
    this.focus("#text");
    this.app.draw();
  }

  /** Give it an agent, or take it away: the conversation stays. */
  async rest(verb) {
    if (await attempt(() => ask("POST", this.path(verb)))) await this.asks();
  }

  async stop() {
    const asked = (state) => {
      this.asked = state;
      this.app.draw();
    };
    if (await endSession(this.app.me, { tenantId: this.tenant, sessionId: this.id }, asked)) this.focus("main");
  }

  // -- how it looks

  view() {
    const { me, feed } = this.app;
    if (!this.mayRead) this.known = feed.rows.get(this.key) ?? this.known;
    const { over, asked, known, mayRead, transcript } = this;
    const dormant = known?.live === false;
    const state = over ? "ended" : asked ?? (dormant ? "dormant" : (mayRead ? transcript.state : null) ?? known?.state ?? "idle");
    const turns = /^(working|waiting|aborting)/.test(state);
    return html`<div class="title session">
        <p class="back"><a href="#/sessions">Sessions</a></p>
        <h1><bdi>${plain(this.id)}</bdi></h1>
        ${stateOf(over && isFailure(transcript.ended) ? "failed" : state, STATES[state] ?? state)}
        <span class="buttons">
          ${turns && this.can("abort") ? html`<button @click=${() => this.abort()} ?disabled=${asked}>Abort turn</button>` : nothing}
          ${me.operator ? nothing : dormant && this.can("prompt") ? html`<button @click=${() => this.rest("/resume")}>Resume</button>`
            : known?.live && known.stored && this.can("delete") ? html`<button @click=${() => this.rest("/close")}>Close</button>` : nothing}
          ${this.can("delete") ? html`<button class="danger" @click=${() => this.stop()} ?disabled=${asked}>End session</button>` : nothing}
        </span>
      </div>
      ${known ? this.facts(known) : nothing}
      <p class="hidden" aria-live="polite">${transcript.asking.map((each) => `${each.name ? `Needs approval: ${each.name}` : `Asks: ${each.text}`}. `)}</p>
      ${me.operator && mayRead ? html`<p class="stale"><code>operators_read_text</code> is on: you read what a tenant’s people say, and that is logged.</p>` : nothing}
      ${mayRead ? this.said() : html`<p class="empty">What is said here is its tenant’s: operators see facts, no text, unless the configuration says <code>operators_read_text = true</code>.</p>`}
      ${this.ending()}
      ${mayRead && this.can("prompt") ? this.box(state) : nothing}`;
  }

  facts(known) {
    const age = known.createdAt && (this.gone?.at ?? this.app.feed.now()) - known.createdAt;
    const facts = Object.entries({
      tenant: this.tenant, blueprint: known.blueprint, model: known.model,
      [this.over ? "lived" : "age"]: age && duration(age),
      turns: figure(known.turns ?? 0), tokens: figure(known.tokens ?? 0), cost: known.costUsd && dollars(known.costUsd),
      restarts: known.restarts, blocked: known.blocked, node: known.node, key: known.keyId,
    });
    return html`<dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<div><dt>${name}</dt><dd>${plain(value)}</dd></div>`)}</dl>`;
  }

  said() {
    const { entries, begun, asking, ended } = this.transcript;
    if (this.missing && !entries.length) return html`<p class="empty">${ended ? "What was said in it is held no longer." : told(this.missing)}</p>`;
    // The window follows the end while that is in view; a reader further up keeps theirs.
    if (this.atEnd) this.first = Math.max(0, entries.length - WINDOW);
    const last = this.first + WINDOW + STEP;
    const unseen = !this.read && !this.over && this.known?.turns > entries.filter((each) => each.kind === "user").length;
    const before = this.first || begun || unseen;
    return html`<div class="stage"><section class="transcript" tabindex="0" role="log" aria-live="off" aria-label="What is said" @scroll=${(event) => this.scroll(event.target)}>
      ${before ? html`<p class="note"><button class="quiet" @click=${() => this.older()}>Show older</button></p>` : nothing}
      ${entries.length || before ? nothing : html`<p class="empty">Nothing was said yet.</p>`}
      ${repeat(entries.slice(this.first, last), (entry) => entry.key, (entry) => entryOf(entry, this))}
      ${last < entries.length ? html`<p class="note"><button class="quiet" @click=${() => { this.first += STEP; this.app.draw(); }}>Show newer</button></p>` : nothing}
    </section>
    ${this.atEnd ? nothing : html`<button class="to-end" @click=${() => this.toEnd()}>${asking.length ? "To what waits for you" : "Jump to newest"} ↓</button>`}</div>`;
  }

  ending() {
    const reason = this.transcript.ended;
    if (!reason) return nothing;
    const { at, logId } = this.gone ?? {};
    return html`<section class="ending ${isFailure(reason) ? "failed" : ""}" role="status">
      <h2>This session has ended</h2><p>${why(reason)}</p>
      <p class="note"><code>${plain(reason)}</code>${at ? html` <span title=${moment(at)}>at ${clock(at)}</span>` : nothing}${logId ? html` · in the log <code>${logId}</code>` : nothing}</p>
    </section>`;
  }

  box(state) {
    const others = this.waiting - this.queue.length;
    const line = (text) => html`<li><span>waits</span> ${plain(text.slice(0, 200))}</li>`;
    const keyed = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      event.target.form.requestSubmit();
    };
    return html`<ol class="queue" aria-label="Prompts that wait">${this.queue.map((each) => line(each.text))}${others > 0 ? line(`${figure(others)} of others`) : nothing}</ol>
      <form class="prompt" @submit=${(event) => this.send(event)}>
        <textarea id="text" name="text" rows="2" aria-label="Prompt" placeholder="Say something. Enter sends, Shift+Enter is a new line." @keydown=${keyed}></textarea>
        <button class="primary">Send</button>
        ${state === "working" ? html`<button value="steer" title="The turn under way takes it into account">Add to this turn</button>` : nothing}
      </form>`;
  }

  // -- where one looks

  toEnd() {
    this.atEnd = true;
    this.app.draw();
  }

  scroll(box) {
    const newest = this.first + WINDOW + STEP >= this.transcript.entries.length;
    // Entries may have come that are not drawn yet: who follows the end goes on following it.
    const atEnd = (newest || this.atEnd) && box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
    if (atEnd === this.atEnd) return;
    this.atEnd = atEnd;
    this.app.draw();
  }

  drawn() {
    const box = document.querySelector(".transcript");
    if (!box) return;
    if (this.atEnd) box.scrollTop = box.scrollHeight;
    else if (this.held) box.scrollTop = box.scrollHeight - this.held;
    this.held = 0;
  }
}
