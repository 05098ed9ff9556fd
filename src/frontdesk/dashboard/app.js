// Who is logged in, and which page is shown: the address after `#` says it.

import { html, nothing, render } from "./lit-html/lit-html.js";
import { ask, loggedOut } from "./api.js";
import { Feed } from "./feed.js";
import { notify } from "./parts.js";
import { clock, plain, told } from "./words.js";
import { SessionsPage } from "./sessions.js";

const PAGES = {
  sessions: async () => SessionsPage,
  session: async () => (await import("./session.js")).SessionPage,
  ends: async () => (await import("./operations.js")).EndsPage,
  nodes: async () => (await import("./operations.js")).NodesPage,
  usage: async () => (await import("./operations.js")).UsagePage,
};
const TITLES = { sessions: "Sessions", ends: "Ends", nodes: "Nodes", usage: "Usage" };

// Drawn here: as a picture it would be asked for once more.
const SIGN = html`<svg viewBox="0 0 32 32" aria-hidden="true"><path d="M16 5a9 9 0 0 1 9 9v6l2.4 3.2a.9.9 0 0 1-.7 1.4H5.3a.9.9 0 0 1-.7-1.4L7 20v-6a9 9 0 0 1 9-9Z"/><circle cx="16" cy="27.2" r="2.6"/><circle cx="16" cy="3.6" r="1.9"/></svg>`;
const ENDED = { message: "You are logged out: the login is over, or its key opens no more." };

/** A part of the address; one that is written wrongly stays as it is. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

class App {
  constructor(place) {
    this.place = place;
    this.me = null;
    this.feed = null;
    this.page = null;
    this.error = null;
    this.drawing = false;
    addEventListener("hashchange", () => this.show());
    loggedOut.addEventListener("out", () => this.leave(ENDED));
    setInterval(() => this.draw(), 1000);
  }

  async start() {
    const code = /^#code=([\w.-]+)$/.exec(location.hash)?.[1];
    if (code) history.replaceState(null, "", location.pathname);
    try {
      if (code) await ask("POST", "dashboard/login", { code });
      const me = await ask("GET", "dashboard/me");
      if (me) this.enter(me);
    } catch (error) {
      this.error = error;
    }
    this.draw();
  }

  enter(me) {
    this.me = me;
    this.error = null;
    this.feed = new Feed(me.operator ? "ops/feed" : "v1/feed");
    for (const what of ["change", "fresh", "lost"]) this.feed.addEventListener(what, () => this.draw());
    // A stream that is refused says nothing of why: whether the key still opens is asked.
    this.feed.addEventListener("lost", () => this.check());
    this.show();
  }

  async check() {
    const me = await ask("GET", "dashboard/me").catch(() => this.me);
    if (!me) this.leave(ENDED);
  }

  /** Show the login, and why. */
  leave(why = null) {
    if (!this.me) return;
    this.feed?.close();
    this.page?.close?.();
    this.me = this.feed = this.page = null;
    this.error = why;
    this.draw();
  }

  async logOut() {
    await ask("POST", "dashboard/logout").catch(() => {});
    this.leave();
  }

  async logIn(event) {
    event.preventDefault();
    const key = new FormData(event.target).get("key").trim();
    event.target.reset();
    try {
      await ask("POST", "dashboard/login", { key });
      this.enter(await ask("GET", "dashboard/me"));
    } catch (error) {
      this.error = error;
      this.draw();
    }
  }

  async show() {
    if (!this.me) return;
    const { hash } = location;
    const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
    const [name, ...parts] = path.split("/").map(decoded);
    const known = Object.hasOwn(PAGES, name) ? name : "sessions";
    const operators = known === "nodes";
    const wanted = operators && !this.me.operator ? "sessions" : known;
    const make = await PAGES[wanted]().catch(() => null);
    // It took its time, and somebody else is wanted by now, or has left.
    if (hash !== location.hash || !this.me) return;
    if (!make) {
      notify("This page cannot be loaded now. Reloading may help once the gateway is there.", "error");
      return;
    }
    if (this.page?.constructor === make && this.page.follow?.(parts, new URLSearchParams(query))) {
      this.draw();
      return;
    }
    this.page?.close?.();
    this.name = wanted;
    this.page = new make(this, parts, new URLSearchParams(query));
    this.heading = TITLES[wanted] ?? plain(parts.at(-1) ?? "Session");
    this.draw();
    document.querySelector("main")?.focus({ preventScroll: true });
  }

  /** Draw once before the next frame, however often it is asked for. */
  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      const shown = Boolean(this.me && this.page);
      render(shown ? this.frame() : this.login(), this.place);
      document.title = shown ? `${this.waiting ? `(${this.waiting}) ` : ""}${this.heading} · Frontdesk` : "Frontdesk";
      if (!shown && this.shown !== false) document.getElementById("key")?.focus();
      this.shown = shown;
      this.page?.drawn?.();
    });
  }

  frame() {
    const { me } = this;
    const stream = this.page.stream ?? this.feed;
    // A page with a stream of its own has closed the feed: then nobody knows how many wait.
    const waiting = this.waiting = stream !== this.feed ? 0 : [...this.feed.rows.values()].reduce((sum, row) => sum + row.approvals + row.questions, 0);
    const link = (name) => html`<a href="#/${name}" aria-current=${this.name === name ? "page" : name === "sessions" && this.name === "session" ? "true" : "false"}>
      ${TITLES[name]}${name === "sessions" && waiting ? html` <b class="count" aria-label="${waiting} wait for an answer">${waiting}</b>` : nothing}
    </a>`;
    return html`<header>
        <a class="skip" href="#/${this.name}" @click=${this.skip}>Skip to the content</a>
        <a class="brand" href="#/sessions">${SIGN}Frontdesk</a>
        <nav aria-label="Pages">${["sessions", "ends", ...(me.operator ? ["nodes"] : []), "usage"].map(link)}</nav>
        <div class="me">
          <span class="who"><b>${me.operator ? "operator" : me.tenantId}</b><span>${me.keyId}</span></span>
          <button class="quiet" @click=${() => this.logOut()}>Log out</button>
          <small>Frontdesk ${me.version} · <a href="docs">API</a></small>
        </div>
      </header>
      <main tabindex="-1">
        ${stream.staleSince === null ? nothing : html`<p class="stale" role="status">
          No word from the gateway since ${clock(stream.staleSince)}: what is shown may be out of date. It is tried again by itself.
        </p>`}
        ${this.page.view()}
      </main>
      <div id="notices" role="status" aria-live="polite"></div>`;
  }

  skip(event) {
    event.preventDefault();
    document.querySelector("main").focus();
  }

  login() {
    return html`<main class="login">
      ${SIGN}
      <h1>Frontdesk</h1>
      <p>Who is in the building, what needs you, why did it end.</p>
      <form @submit=${(event) => this.logIn(event)}>
        <input class="hidden" autocomplete="username" value="frontdesk" readonly tabindex="-1" aria-hidden="true">
        <label for="key">API key</label>
        <input id="key" name="key" type="password" autocomplete="current-password" required spellcheck="false">
        <button class="primary">Log in</button>
        ${this.error ? html`<p class="error" role="alert">${told(this.error)}</p>` : nothing}
      </form>
      <p class="hint">A tenant's key shows its own sessions, an operator's key shows all. The key is sent once and not stored.</p>
    </main>`;
  }
}

const app = new App(document.getElementById("app"));
for (const kind of ["error", "unhandledrejection"]) {
  addEventListener(kind, () => notify("Something went wrong in this page. Reloading it may help.", "error"));
}
await app.start();
