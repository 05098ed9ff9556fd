// What pages have in common: long lists, the chart of the hour, questions before something is ended.

import { html, nothing, render, svg } from "./lit-html/lit-html.js";
import { repeat } from "./lit-html/directives/repeat.js";
import { ask, pathOf } from "./api.js";
import { clock, figure, isFailure, plain, STATES, told } from "./words.js";

/** A state as a word, with a dot of its own shape, so that colour is not needed to tell them apart. */
export const stateOf = (state, word) => html`<span class="state ${state}"><i aria-hidden="true"></i>${word}</span>`;

const HEIGHT = 44;

/** The starts and ends of the last hour, a bar a minute: what began above the line, what ended below. */
export function hourChart(minutes, now) {
  const first = Math.floor(now / 60_000) - 59;
  const byMinute = new Map(minutes.map((each) => [Math.floor(each.at / 60_000) - first, each]));
  const sums = new Map();
  let starts = 0;
  const bars = Array.from({ length: 60 }, (_, at) => {
    const each = byMinute.get(at) ?? { starts: 0, ends: {} };
    const bar = { starts: each.starts, failed: 0, well: 0 };
    starts += each.starts;
    for (const [reason, n] of Object.entries(each.ends)) {
      sums.set(reason, (sums.get(reason) ?? 0) + n);
      bar[isFailure(reason) ? "failed" : "well"] += n;
    }
    bar.title = [`${each.starts} began`, ...Object.entries(each.ends).map(([reason, n]) => `${n} ${reason}`)].join(", ");
    return bar;
  });
  const reasons = [...sums].sort((a, b) => b[1] - a[1]);
  const most = Math.max(1, ...bars.map((each) => Math.max(each.starts, each.failed + each.well)));
  const middle = HEIGHT / 2;
  const scale = (middle - 2) / most;
  const label = `In the last hour ${[`${figure(starts)} sessions began`, ...reasons.map(([reason, n]) => `${figure(n)} ended: ${reason}`)].join(", ")}.`;
  const bar = (at, from, n, kind) => (n ? svg`<rect x=${at * 10 + 1} width="8" y=${from} height=${n * scale} class=${kind}></rect>` : nothing);
  return html`<figure class="hour" role="group" aria-label="The last hour">
    <figcaption><span><b class="starts"></b>${figure(starts)} began</span>${reasons.slice(0, 6).map(
      ([reason, n]) => html`<span><b class=${isFailure(reason) ? "failed" : "well"}></b>${figure(n)} ${reason}</span>`,
    )}${reasons.length ? nothing : html`<span>none ended</span>`}<span class="since">since ${clock(now - 3_600_000).slice(0, 5)}</span></figcaption>
    <svg viewBox="0 0 600 ${HEIGHT}" role="img" aria-label=${label} preserveAspectRatio="none">
      <line x1="0" x2="600" y1=${middle} y2=${middle} class="axis"></line>
      ${bars.map((each, at) => (each.starts || each.failed || each.well
        ? svg`<g><title>${clock((first + at) * 60_000).slice(0, 5)}: ${each.title}</title>${bar(at, middle - 1 - each.starts * scale, each.starts, "starts")}
          ${bar(at, middle + 1, each.failed, "failed")}${bar(at, middle + 1 + each.failed * scale, each.well, "well")}</g>` : nothing))}
    </svg>
  </figure>`;
}

/**
 * Ask before something that cannot be taken back; resolves to whether it is wanted.
 * @param {string} question @param {unknown} about @param {string} verb what the button says
 */
export function confirmed(question, about, verb) {
  const dialog = document.createElement("dialog");
  document.body.append(dialog);
  const template = html`<form method="dialog">
    <h2>${question}</h2>
    <p>${about}</p>
    <p class="buttons">
      <button value="no" autofocus>Leave it</button>
      <button value="yes" class="danger">${verb}</button>
    </p>
  </form>`;
  render(template, dialog);
  dialog.setAttribute("aria-label", question);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
  });
}

/** Say something that has happened, for a while, where it disturbs nobody and a reader hears it. */
export function notify(text, kind = "info") {
  const place = document.getElementById("notices");
  const line = document.createElement("p");
  line.className = kind;
  line.textContent = text;
  place?.append(line);
  while ((place?.children.length ?? 0) > 4) place.firstElementChild.remove();
  setTimeout(() => line.remove(), kind === "error" ? 12_000 : 6_000);
}

/** Do something that a person asked for; tell them where it cannot be done. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    notify(told(error), "error");
    return undefined;
  }
}

/**
 * End a session, if that is wanted; resolves to whether it was.
 * @param {(state: string | null) => void} asked hears of it at once, and where it cannot be done
 */
export async function endSession(me, row, asked) {
  const whose = me.operator ? html` of ${plain(row.tenantId)}` : nothing;
  const about = html`<b><bdi>${plain(row.sessionId)}</bdi></b>${whose} ends for everybody${me.operator ? nothing : ", and what was said in it is erased for good"}.`;
  if (!(await confirmed("End this session?", about, "End it"))) return false;
  asked("stopping");
  const path = me.operator ? pathOf(row.tenantId, row.sessionId, "/stop") : pathOf(null, row.sessionId);
  const done = await attempt(() => ask(me.operator ? "POST" : "DELETE", path));
  if (!done) asked(null);
  return Boolean(done);
}

/** Offer a text as a file. */
export function download(name, text, type = "text/csv") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Columns as CSV: quoted, and nothing in it is a formula to a spreadsheet. */
export function csv(columns, rows) {
  const cell = (value) => {
    const text = String(value ?? "");
    const plain = /^[=+\-@\t\r]/.test(text) && typeof value !== "number" ? `'${text}` : text;
    return `"${plain.replaceAll('"', '""')}"`;
  };
  return [columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

const AT_MOST = 100;
const SPARE = 10;

/**
 * A long list of a page: what the address chooses of it, and as many rows in the page as can be seen.
 *
 * Belongs to a page, which has its `query`, is told `chosen` of another one, and is drawn by its `app`.
 */
export class List {
  scrolled = 0;
  height = 800;
  rowHeight = 37;
  anchor = null;

  /** @param {any} page @param {string} name @param {Record<string, (item: any) => string>} fields to choose by */
  constructor(page, name, fields) {
    this.page = page;
    this.name = name;
    this.fields = fields;
  }

  get(name) {
    return this.page.query.get(name) ?? "";
  }

  set(name, value) {
    const query = new URLSearchParams(this.page.query);
    if (value) query.set(name, value);
    else query.delete(name);
    // A choice can be gone back on; each letter of a search is not a step.
    history[name === "q" ? "replaceState" : "pushState"](null, "", `#/${this.name}${query.size ? `?${query}` : ""}`);
    document.querySelector(".rows")?.scrollTo(0, 0);
    this.page.follow([], query);
    this.page.app.draw();
  }

  /** What is chosen of all items; `but` is not looked at. */
  chosen(items, but = "") {
    const wanted = Object.entries(this.fields).filter(([name]) => name !== but && this.get(name));
    return items.filter((item) => wanted.every(([name, of]) => of(item) === this.get(name)));
  }

  choice(name, options) {
    const chosen = this.get(name);
    return html`<select aria-label=${name} class="${name} ${chosen ? "chosen" : ""}" @change=${(event) => this.set(name, event.target.value)}>
      ${options.map(([value, word]) => html`<option value=${value} .selected=${value === chosen}>${word}</option>`)}</select>`;
  }

  controls(items, label, more = nothing) {
    const filter = ([name, of]) => {
      const values = [...new Set([...items.map(of), this.get(name)])].filter(Boolean).sort().slice(0, 200);
      return values.length > 1 || this.get(name) ? this.choice(name, [["", `any ${name}`], ...values.map((value) => [value, STATES[value] ?? plain(value)])]) : nothing;
    };
    return html`<form class="controls" role="search" @submit=${(event) => event.preventDefault()}>
      <input id="search" type="search" aria-label=${label} placeholder="${label}  /" .value=${this.get("q")}
        @input=${(event) => this.set("q", event.target.value)} autocomplete="off" spellcheck="false">
      ${Object.entries(this.fields).map(filter)}${more}</form>`;
  }

  /**
   * @param {any[]} items @param {(item: any) => string} keyOf
   * @param {[string, string, (item: any) => unknown][]} columns name, class, what it says
   * @param {(item: any) => string} kindOf a row's class
   */
  table(items, keyOf, columns, kindOf = () => "") {
    this.keepPlace(items, keyOf);
    const visible = Math.min(AT_MOST, Math.ceil(this.height / this.rowHeight) + 2 * SPARE);
    const first = Math.max(0, Math.min(Math.floor(this.scrolled / this.rowHeight) - SPARE, items.length - visible));
    const space = (count) => (count > 0 ? html`<tr class="space" aria-hidden="true"><td .style=${`height: ${count * this.rowHeight}px`}></td></tr>` : nothing);
    return html`<div class="rows ${this.name}" tabindex="0" role="region" aria-label=${this.page.title} @scroll=${(event) => this.scroll(event.target)}>
      <table aria-rowcount=${items.length + 1} aria-label=${this.page.title}>
        <thead><tr aria-rowindex="1">${columns.map(([name, kind]) => html`<th scope="col" class=${kind}>${name}</th>`)}</tr></thead>
        <tbody>${space(first)}${repeat(items.slice(first, first + visible), keyOf, (item, at) => html`<tr aria-rowindex=${first + at + 2} class=${kindOf(item)}>
          ${columns.map(([, kind, say]) => html`<td class=${kind}>${say(item)}</td>`)}</tr>`)}${space(items.length - first - visible)}</tbody>
      </table></div>`;
  }

  scroll(box) {
    this.height = box.clientHeight;
    if (Math.abs(box.scrollTop - this.scrolled) < 1) return;
    this.scrolled = box.scrollTop;
    this.anchor = null;
    this.page.app.draw();
  }

  /** What a reader further down sees stays where it is, whatever comes and goes above it. */
  keepPlace(items, keyOf) {
    const place = Math.floor(this.scrolled / this.rowHeight);
    const at = this.anchor ? items.findIndex((item) => keyOf(item) === this.anchor.key) : -1;
    if (at >= 0) {
      this.moved = at !== this.anchor.at;
      this.scrolled += (at - this.anchor.at) * this.rowHeight;
      this.anchor.at = at;
    } else this.anchor = place > 0 && items[place] ? { key: keyOf(items[place]), at: place } : null;
  }

  drawn() {
    const height = document.querySelector(".rows tbody tr:not(.space)")?.offsetHeight;
    if (height && height !== this.rowHeight) {
      this.rowHeight = height;
      this.page.app.draw();
    }
    if (this.moved) document.querySelector(".rows").scrollTop = this.scrolled;
    this.moved = false;
  }
}
