// What is said in a session: entries made of its events, how they look, and the stream they come by.

import { html, nothing } from "./lit-html/lit-html.js";
import { Stream } from "./feed.js";
import { stateOf } from "./parts.js";
import { duration, figure, plain } from "./words.js";

const MOST_KEPT = 2000;
const MOST_CHARACTERS = 200_000;
const FOLDED = 6000;
const QUIET = ["message_start", "message_delta", "thinking_start", "thinking_delta"];
const NOTES = {
  agent_restarted: (said) => `Another agent took over (${said.reason}), number ${said.count}.`,
  model_switched: (said) => `The model is ${said.to} now.`,
  option_changed: (said) => `${said.optionId} is ${said.value} now.`,
  tool_attached: (said) => `The tool ${said.name} was attached.`,
  tool_detached: (said) => `The tool ${said.name} was taken away.`,
  out_of_turn: (said) => said.text,
};
const TYPES = [
  ...QUIET, ...Object.keys(NOTES), "prompt_received", "tool_execution_start", "tool_execution_end",
  "approval_required", "approval_resolved", "ask_user", "error", "agent_abort", "agent_end", "steering", "session_end",
];

/** What was said, as entries in order: made of events, one after another. */
export class Transcript {
  entries = [];
  number = 0;
  state = null;
  ended = null;
  /** Whether something was said before the first entry. */
  begun = false;

  add(kind, more) {
    this.close();
    const entry = { kind, key: this.number++, ...more };
    this.entries.push(entry);
    if (this.entries.length > MOST_KEPT) {
      this.entries.splice(0, MOST_KEPT / 10);
      this.begun = true;
    }
    return entry;
  }

  /** The message or thought under way is whole. */
  close() {
    const last = this.entries.at(-1);
    if (last) last.open = false;
  }

  /** More of a message or a thought; of a very long one the end is kept. */
  more(kind, text) {
    let entry = this.entries.at(-1);
    if (!entry?.open || entry.kind !== kind) entry = this.add(kind, { text: "", cut: 0, open: true });
    entry.text += text;
    const over = entry.text.length - MOST_CHARACTERS;
    if (over > MOST_CHARACTERS / 10) {
      entry.text = entry.text.slice(over);
      entry.cut += over;
    }
  }

  find(kind, id) {
    return this.entries.findLast((entry) => entry.kind === kind && entry.id === id);
  }

  /** What waits for somebody's answer. */
  get asking() {
    return this.ended ? [] : this.entries.filter((each) => each.asks && !each.answer);
  }

  take(name, said) {
    switch (name) {
      case "prompt_received":
        this.state = "working";
        this.add("user", { text: said.text, files: said.attachments });
        break;
      case "message_start": case "thinking_start": this.close(); break;
      case "message_delta": this.more("message", said.delta); break;
      case "thinking_delta": this.more("thought", said.delta); break;
      case "tool_execution_start": this.add("tool", { id: said.callId, name: said.toolName, args: said.args }); break;
      case "tool_execution_end": this.toolEnds(said.callId, said.toolName, said); break;
      case "approval_required": this.asks("approval", { ...said, id: said.approvalId, name: said.toolName }); break;
      case "approval_resolved": this.answered(this.find("approval", said.approvalId), said.status); break;
      case "ask_user": this.asks("question", { id: said.ref, text: said.question }); break;
      case "steering": this.add("user", { text: said.text, steering: true }); break;
      case "error":
        if (said.reason !== "gap") this.add("note", { text: `Error: ${said.reason}`, failed: true });
        else if (this.entries.length) this.add("gap");
        else this.begun = true;
        break;
      case "agent_end": case "agent_abort":
        for (const entry of this.asking) entry.answer = "not answered in time";
        this.state = "idle";
        if (name === "agent_end") this.add("end", { tokens: said.tokenUsage?.totalTokens });
        else this.add("note", { text: `The turn was cut short: ${said.reason}`, failed: said.reason !== "aborted" });
        break;
      case "session_end":
        this.ended = said.reason;
        this.close();
        break;
      default: this.add("note", { text: NOTES[name](said) });
    }
  }

  asks(kind, more) {
    this.add(kind, { ...more, asks: true });
    this.goOn();
  }

  answered(entry, answer) {
    if (entry) entry.answer = answer;
    this.goOn();
  }

  goOn() {
    const kinds = this.asking.map((each) => each.kind);
    this.state = kinds.includes("approval") ? "waiting_approval" : kinds.length ? "waiting_input" : "working";
  }

  toolEnds(id, name, { status, result, durationMs }) {
    Object.assign(this.find("tool", id) ?? this.add("tool", { id, name }), { status, result, took: durationMs });
  }

  /** Put the history before what the stream said, each thing once; say how many entries that is. */
  prepend(messages) {
    const isPrompt = (entry) => entry.kind === "user" && !entry.steering;
    const first = this.entries.findIndex(isPrompt);
    const asked = messages.flatMap((each, at) => (each.role === "user" ? [at] : []));
    // The history is bounded as well, and may have lost the first prompts of the stream.
    let known = this.entries.filter(isPrompt).length;
    while (known && messages[asked.at(-known)]?.content !== this.entries[first].text) known -= 1;
    const kept = first < 0 ? [] : this.entries.slice(first);
    this.entries = [];
    for (const message of messages.slice(0, known ? asked.at(-known) : first < 0 ? messages.length : 0)) {
      const { role, content, toolCalls = [], attachments } = message;
      if (role === "tool_result") this.toolEnds(message.callId, "tool", { status: message.status ?? "ok", result: content });
      else if (content) this.add(role === "user" ? "user" : "message", { text: content, cut: 0, files: attachments });
      for (const call of toolCalls) this.add("tool", { id: call.callId, name: call.toolName, args: call.args, status: "cancelled" });
    }
    const before = this.entries.length;
    this.entries.push(...kept);
    this.begun = false;
    return before;
  }
}

/** The events of a session, into its transcript. Tells what is `said` beside the pieces of texts. */
export class SessionStream extends Stream {
  names = TYPES;
  lastId = "0";

  /** @param {string} path @param {Transcript} transcript */
  constructor(path, transcript) {
    super();
    this.path = path;
    this.transcript = transcript;
  }

  address() {
    return `${this.path}?since=${encodeURIComponent(this.lastId)}`;
  }

  /** How many events there have been. */
  get index() {
    return Number(this.lastId.split("-").at(-1));
  }

  opened() {
    this.current();
  }

  // Signs of life are comments here, which a page does not see: it asks now and then instead.
  listen() {}

  lost() {
    if (this.transcript.ended) this.close();
    else super.lost();
  }

  take(name, said) {
    this.transcript.take(name, said);
    if (!QUIET.includes(name)) this.dispatchEvent(new CustomEvent("said", { detail: { name, said } }));
    if (name === "session_end") this.close();
  }
}

// -- how it looks: `page` is who takes the answers

export function entryOf(entry, page) {
  switch (entry.kind) {
    case "user": return html`<article class="user"><h2 class=${entry.steering ? "" : "hidden"}>${entry.steering ? "added meanwhile" : "prompt"}</h2>${textOf(entry, page)}
      ${entry.files?.map((file) => html`<p class="note">${plain(file.name)} (${file.mediaType})</p>`)}</article>`;
    case "message": return html`<article><h2 class="hidden">agent</h2>${textOf(entry, page)}</article>`;
    case "thought": return html`<details class="thought"><summary>${entry.open ? "thinks …" : "thought"}</summary>${textOf(entry, page)}</details>`;
    case "tool": return toolOf(entry, page);
    case "approval": return approvalOf(entry, page);
    case "question": return questionOf(entry, page);
    case "gap": return html`<p class="gap">Some of what was said is missing here. <button class="quiet" @click=${() => page.begin()}>Read it again</button></p>`;
    case "end": return html`<p class="end">${entry.tokens ? `${figure(entry.tokens)} tokens` : "end of turn"}</p>`;
    default: return html`<p class="note ${entry.failed ? "failed" : ""}">${plain(entry.text)}</p>`;
  }
}

/** A text as it is; of a very long one a part, until all is asked for. */
function textOf(entry, page) {
  const { text, cut = 0, whole, open } = entry;
  if (whole || text.length <= FOLDED) return html`<p>${cut ? `[${figure(cut)} characters left out] ` : ""}${plain(text)}</p>`;
  return html`<p>${plain(open ? text.slice(-FOLDED) : text.slice(0, FOLDED))}</p>
    <p class="note"><button class="quiet" @click=${() => page.change(entry, { whole: true })}>Show all ${figure(text.length + cut)} characters</button></p>`;
}

/** What a tool is given, or gives: fields apart where it has some, so that texts read as texts. */
function valueOf(value, title) {
  if (value === null || value === undefined) return nothing;
  const shown = (each) => {
    const text = typeof each === "string" ? each : JSON.stringify(each, null, 2);
    return plain(text.length > 20_000 ? `${text.slice(0, 20_000)} … (${figure(text.length)} characters)` : text);
  };
  const fields = typeof value === "object" && !Array.isArray(value) ? Object.entries(value) : [];
  return html`${title ? html`<h3>${title}</h3>` : nothing}${fields.length && fields.length < 40
    ? html`<dl class="fields">${fields.map(([name, each]) => html`<dt>${plain(name)}</dt><dd>${shown(each)}</dd>`)}</dl>`
    : html`<pre>${shown(value)}</pre>`}`;
}

function toolOf({ name, status, took, args, result }, page) {
  const time = took ? ` · ${took < 1000 ? `${took} ms` : duration(took)}` : "";
  const look = status === "error" ? "failed" : status || page.over ? "idle" : "working";
  return html`<details class="tool">
    <summary>${stateOf(look, plain(name))} <span>${status ?? (page.over ? "not finished" : "runs")}${time}</span></summary>
    ${valueOf(args, "arguments")}${valueOf(result, "result")}</details>`;
}

function approvalOf(entry, page) {
  const { details, answer, asked, hint } = entry;
  const open = !answer && !page.over;
  const choose = (option) => page.answer(entry, /^reject/.test(option.kind) ? "reject" : "approve", { approvalId: entry.id, optionId: option.optionId });
  const buttons = details?.options?.length
    ? details.options.map((option) => html`<button @click=${() => choose(option)}>${plain(option.name)}</button>`)
    : html`<button class="primary" @click=${() => choose({})}>Approve</button><button @click=${() => page.change(entry, { refusing: true })}>Reject …</button>`;
  return html`<article class="asks ${open ? "open" : ""}">
    <h2>${open ? "needs approval" : `approval: ${answer ?? "not answered"}`}</h2>
    <p><b>${plain(details?.title ?? entry.name)}</b>${hint ? ` – ${plain(hint)}` : ""}</p>
    ${valueOf(entry.args)}${details?.content?.slice(0, 8).map((each) => valueOf(each))}
    ${!open || !page.can("approve") ? nothing
      : asked ? html`<p class="note">${asked === "approve" ? "approving …" : "rejecting …"}</p>`
      : entry.refusing ? replyOf(entry, page, "reject", "Why not? (may stay empty)", "Reject")
      : html`<p class="buttons">${buttons}</p>`}
  </article>`;
}

function questionOf(entry, page) {
  const open = !entry.answer && !page.over;
  return html`<article class="asks ${open ? "open" : ""}">
    <h2>${open ? "asks a question" : "question"}</h2>${textOf(entry, page)}
    ${open && page.can("prompt") ? replyOf(entry, page, "respond", "Your answer", "Answer") : html`<p class="note">${plain(entry.answer)}</p>`}
  </article>`;
}

function replyOf(entry, page, verb, label, word) {
  const send = (event) => {
    event.preventDefault();
    const text = event.target.elements.text.value.trim();
    page.answer(entry, verb, verb === "respond" ? { ref: entry.id, response: text } : { approvalId: entry.id, reason: text || undefined });
  };
  return html`<form class="reply" @submit=${send} @keydown=${(event) => event.key === "Escape" && page.change(entry, { refusing: false })}>
    <input name="text" aria-label=${label} placeholder=${label} ?required=${verb === "respond"} maxlength="2000" autocomplete="off">
    <button class="primary" ?disabled=${entry.asked}>${word}</button></form>`;
}
