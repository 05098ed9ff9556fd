// Requests to the gateway, and the errors that they are answered with.

/** An error that the gateway answered with, or that it could not be reached (`status` 0). */
export class Problem extends Error {
  /** @param {number} status @param {any} body */
  constructor(status, body) {
    super(body?.message ?? (status ? `The gateway answered ${status}.` : "The gateway cannot be reached."));
    this.status = status;
    this.code = body?.error ?? (status ? "failed" : "unreachable");
    this.facts = body ?? {};
  }
}

/** Tells the page that nobody is logged in any more. */
export const loggedOut = new EventTarget();

const PATIENCE_MS = 20_000;

/**
 * Ask the gateway for something; `Problem` where it refuses or cannot be reached.
 * @param {string} method @param {string} path without the leading slash @param {any} [body]
 */
export async function ask(method, path, body) {
  const headers = method === "GET" ? {} : { "X-Frontdesk": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch {
    throw new Problem(0);
  }
  const said = await answer.json().catch(() => null);
  if (answer.ok) return said;
  const problem = new Problem(answer.status, said);
  if (answer.status === 401 && !path.startsWith("dashboard/")) loggedOut.dispatchEvent(new Event("out"));
  throw problem;
}

/** The path of a session's route, for a tenant or, with its tenant, for an operator. */
export function pathOf(tenant, id, rest = "") {
  const at = tenant === null ? "v1/sessions" : `ops/sessions/${encodeURIComponent(tenant)}`;
  return `${at}/${encodeURIComponent(id)}${rest}`;
}
