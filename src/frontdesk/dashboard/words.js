// Ages, figures, states and reasons, as people read them.

const UNITS = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];

/** A duration in one unit, or two where that says more: `5 s`, `12 min`, `3 h 5 min`. */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const at = UNITS.findIndex(([, size]) => seconds >= size);
  if (at < 0) return "0 s";
  const [unit, size] = UNITS[at];
  const many = Math.floor(seconds / size);
  const next = UNITS[at + 1];
  const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
  return many < 10 && rest && size > 60 ? `${many} ${unit} ${rest} ${next[0]}` : `${many} ${unit}`;
}

const WHOLE = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A whole number: with its thousands apart, or shortened from 100,000 on. */
export const figure = (number) => (number < 100_000 ? WHOLE : SHORT).format(number);

/** An amount in dollars, with as many places as it takes to see it. */
export function dollars(amount) {
  if (!amount) return "–";
  return `$${amount.toFixed(amount < 0.1 ? 4 : 2)}`;
}

/** A moment as the reader's own clock shows it. */
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });
export const moment = (ms) => new Date(ms).toLocaleString([], { hour12: false });

// Controls, and what turns a line around or is not seen at all; flags of emoji are spared.
const UNSEEN = /\r(?!\n)|(?<!\u{1f3f4}[\u{e0020}-\u{e007f}]{0,6})[\u{e0000}-\u{e007f}]|[\0-\b\v\f\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;
const named = (character) => {
  const code = character.codePointAt(0);
  if (code < 32) return String.fromCharCode(0x2400 + code);
  return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
};

/** A text of somebody else's, with what cannot be seen in it made visible. */
export const plain = (text) => String(text ?? "").replace(UNSEEN, named);

/** States in the order of how much they need somebody, with the words for them. */
export const STATES = {
  waiting_approval: "needs approval",
  waiting_input: "asks a question",
  restarting: "restarting",
  suspect: "not heard of",
  stopping: "stopping",
  working: "working",
  aborting: "aborting",
  idle: "idle",
  dormant: "dormant",
};

export const needsSomebody = (row) => row.state === "waiting_approval" || row.state === "waiting_input";

const REASONS = {
  normal: "Its agent was done and returned.",
  cancelled: "The program that runs it has cancelled it.",
  crashed: "Its agent raised an error.",
  signalled: "Its process was ended by a signal.",
  exited: "Its process exited with a failure.",
  not_alive: "Its agent had ended already when it was looked at.",
  lost: "The machine or the worker that it ran on went down.",
  deleted: "Somebody ended it.",
  shutdown: "The gateway was shut down.",
  expired: "Nobody used it for as long as its blueprint allows.",
  superseded: "Another node has this id by now.",
  restarted: "Another agent took over.",
  unknown: "How it ended could not be found out.",
};

/** Why a session ended, in a sentence. */
export function why(reason) {
  const kind = /^[a-z_]+/.exec(reason ?? "")?.[0];
  return REASONS[kind] ?? "It has ended.";
}

/** Ends that somebody should look at. */
export const isFailure = (reason) => /^(crashed|signalled|exited|lost|unknown)/.test(reason);

/** What a person is told of an error: what it is, and what to do where that is known. */
export function told(error) {
  const wait = error.facts?.retryAfter ?? error.facts?.retry_after;
  const more = error.status === 429 && wait ? ` Again in ${wait} s.` : "";
  return `${error.message}${more}`;
}
