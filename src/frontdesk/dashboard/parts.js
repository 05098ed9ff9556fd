// What pages have in common: the chart of the hour, questions before something is ended, notices.

import { html, nothing, render, svg } from "./lit-html/lit-html.js";
import { clock, isFailure, told } from "./words.js";

/** A state as a word, with a dot of its own shape, so that colour is not needed to tell them apart. */
export const stateOf = (state, word) => html`<span class="state ${state}"><i aria-hidden="true"></i>${word}</span>`;

const WIDTH = 600;
const HEIGHT = 56;

/** The starts and ends of the last hour, a bar a minute: what began above the line, what ended below. */
export function hourChart(minutes, now) {
  const first = Math.floor(now / 60_000) - 59;
  const byMinute = new Map(minutes.map((each) => [Math.floor(each.at / 60_000), each]));
  const bars = Array.from({ length: 60 }, (_, at) => {
    const each = byMinute.get(first + at);
    const ends = Object.entries(each?.ends ?? {});
    const failed = ends.filter(([reason]) => isFailure(reason)).reduce((sum, [, n]) => sum + n, 0);
    const all = ends.reduce((sum, [, n]) => sum + n, 0);
    return { starts: each?.starts ?? 0, failed, well: all - failed };
  });
  const most = Math.max(1, ...bars.map((each) => Math.max(each.starts, each.failed + each.well)));
  const scale = (HEIGHT / 2 - 3) / most;
  const sum = (name) => bars.reduce((total, each) => total + each[name], 0);
  const [starts, failed, ended] = [sum("starts"), sum("failed"), sum("well") + sum("failed")];
  const label = `In the last hour ${starts} sessions began and ${ended} ended, ${failed} of them by a failure.`;
  const middle = HEIGHT / 2;
  return html`<figure class="hour">
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${label} preserveAspectRatio="none">
      <line x1="0" x2=${WIDTH} y1=${middle} y2=${middle} class="axis"></line>
      ${bars.map((each, at) => {
        const bar = (from, height, kind) =>
          height ? svg`<rect x=${at * 10 + 1} width="8" y=${from} height=${height} class=${kind}></rect>` : nothing;
        const failedHeight = each.failed * scale;
        return svg`${bar(middle - 1 - each.starts * scale, each.starts * scale, "starts")}
          ${bar(middle + 1, failedHeight, "failed")}
          ${bar(middle + 1 + failedHeight, each.well * scale, "well")}`;
      })}
    </svg>
    <figcaption>
      <span>${clock(now - 3_600_000).slice(0, 5)}</span>
      <span><b class="starts"></b>${starts} began</span>
      <span><b class="well"></b>${ended - failed} ended</span>
      <span><b class="failed"></b>${failed} failed</span>
      <span>now</span>
    </figcaption>
  </figure>`;
}

/** Reasons of the last hour's ends, the most frequent first. */
export function reasonsOf(minutes) {
  const sums = new Map();
  for (const each of minutes) {
    for (const [reason, n] of Object.entries(each.ends)) sums.set(reason, (sums.get(reason) ?? 0) + n);
  }
  return [...sums].sort((a, b) => b[1] - a[1]);
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
