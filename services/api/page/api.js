// The API: reads, writes, the stream, and the token, which lives no longer than the tab.

export const token = {
  get: () => sessionStorage.getItem("token"),
  set(value) {
    if (value) sessionStorage.setItem("token", value);
    else sessionStorage.removeItem("token");
  },
};

/** Status of what was not answered. */
export const AWAY = 0;

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The API answered ${status}.`);
    this.status = status;
    this.type = (problem.type || "").replace(/^.*\//, "");
  }
}

async function request(address, options = {}) {
  const headers = { ...options.headers };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  try {
    return await fetch(address, { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(AWAY, { detail: "The API does not answer. What is missing comes as soon as it does." });
  }
}

async function answered(answer) {
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, body);
  return body;
}

export const get = async (address, signal) =>
  answered(await request(address, { signal, headers: { Accept: "application/json" } }));

/** Like get, and null where there is nothing yet. */
export async function getOrNull(address, signal) {
  try {
    return await get(address, signal);
  } catch (error) {
    if (error.status === 404 || error.status === 406) return null;
    throw error;
  }
}

export const post = async (address, body) =>
  answered(await request(address, {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
  }));

export const withdraw = async (address) => answered(await request(address, { method: "DELETE" }));

/** A document as a file of the reader's; with a token, a plain link would not do. */
export async function download(address, name) {
  const answer = await request(address);
  if (!answer.ok) throw new ApiError(answer.status, await answer.json().catch(() => ({})));
  const made = URL.createObjectURL(await answer.blob());
  const link = document.createElement("a");
  link.href = made;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(made), 1000);
}

export function query(parameters) {
  const made = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined && one !== false) made.append(key, one);
    }
  }
  return made.toString();
}

/** The address of a next page names the public host, which may be another than ours. */
export function here(next) {
  if (!next) return null;
  const { pathname, search } = new URL(next);
  return pathname.replace(/^.*?\/(images|vulnerabilities|vex|fleet|vendor-vex)(?=\/|$)/, "$1") + search;
}

let following = null;

/** Follows /stream for ever; `tell(kind, data)` gets each event, `state(on)` whether it is on. */
export async function follow(tell, state) {
  following?.abort();
  const stop = (following = new AbortController());
  let last = null;
  while (!stop.signal.aborted) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const answer = await request("stream", { signal: stop.signal, headers });
      if (!answer.ok) throw new Error(answer.statusText);
      state(true);
      for await (const event of events(answer.body)) {
        last = event.id ?? last;
        if (event.data) tell(event.event, JSON.parse(event.data));
      }
    } catch { /* the connection is gone; it is made anew below */ }
    if (stop.signal.aborted) return;
    state(false);
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (buffer + value).split("\n\n");
    buffer = parts.pop();
    for (const part of parts) {
      const event = {};
      for (const line of part.split("\n")) {
        const at = line.indexOf(": ");
        if (at > 0) event[line.slice(0, at)] = line.slice(at + 2);
      }
      yield event;
    }
  }
}
