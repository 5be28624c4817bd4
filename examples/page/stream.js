// What the pages of the examples share: following an event stream, and showing a job.
//
// The streams here want headers, which a browser's EventSource cannot send, so this reads them with
// fetch and does what an EventSource does: it parses as the standard says, comes back by itself
// with the last event ID, honours `retry`, and stops at 204. It does three things more: it comes
// back after 429 and 5xx, when Retry-After says; it does not take silence for life; and what it
// cannot do it says, with the server's reason.

const SILENCE = 45_000; // ms: three heartbeats
const LONGEST = 4_000; // ms between two attempts

/** The server's answer was no, and will be. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The network failed, or the server is not there. */
export class Dropped extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

/** What the network gives, or Dropped; whatever else is thrown is no fault of the network. */
const given = (promise) => promise.catch((error) => {
  throw error.name === "AbortError" ? error : new Dropped();
});

/**
 * Follow an event stream until `onEvent` returns true, the server says 204, or `signal` aborts.
 *
 * `onState` is told "connecting", "live" and "reconnecting". Throws Refused if there is no such
 * stream for us.
 */
export async function follow(url, { headers = {}, signal, onEvent, onState = () => {} }) {
  const parser = new Parser();
  let failures = 0;
  onState("connecting");
  for (;;) {
    let delay;
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal?.addEventListener("abort", stop);
    try {
      const response = await given(fetch(url, {
        headers: {
          ...headers,
          Accept: "text/event-stream",
          ...(parser.lastEventId && { "Last-Event-ID": parser.lastEventId }),
        },
        cache: "no-store",
        signal: attempt.signal,
      }));
      if (response.status === 204) return;
      if (response.status === 429 || response.status >= 500) {
        delay = 1000 * Number(response.headers.get("Retry-After")) || undefined;
      } else {
        if (!response.ok) throw await refusal(response);
        const type = response.headers.get("Content-Type") ?? "";
        if (!type.startsWith("text/event-stream")) throw new Refused(200, `no stream: ${type}`);
        onState("live");
        failures = 0;
        if (await read(response.body, parser, attempt, onEvent)) return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!(error instanceof Dropped) && error.name !== "AbortError") throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
      attempt.abort();
    }
    onState("reconnecting");
    delay ??= Math.min(LONGEST, parser.retry * 2 ** Math.min(failures++, 4)) * (0.5 + Math.random() / 2);
    if (!(await pause(delay, signal))) return;
  }
}

/** Read one body; true: what was waited for has come. */
async function read(body, parser, attempt, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  parser.reset();
  for (;;) {
    const silence = setTimeout(() => attempt.abort(), SILENCE);
    const { done, value } = await given(reader.read()).finally(() => clearTimeout(silence));
    if (done) return false;
    for (const event of parser.feed(value)) if (onEvent(event)) return true;
  }
}

/** https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation */
export class Parser {
  lastEventId = "";
  retry = 500;

  constructor() {
    this.reset();
  }

  /** Begin a new stream: what was not finished of the last one is nothing. */
  reset() {
    this.line = "";
    this.afterCR = false;
    this.clear();
  }

  clear() {
    this.event = "";
    this.data = [];
    this.id = this.lastEventId;
  }

  *feed(text) {
    if (this.afterCR && text.startsWith("\n")) text = text.slice(1);
    if (text) this.afterCR = text.endsWith("\r");
    const lines = (this.line + text).split(/\r\n|\r|\n/);
    this.line = lines.pop();
    for (const line of lines) {
      if (line) this.take(line);
      else {
        this.lastEventId = this.id;
        if (this.data.length) yield { type: this.event || "message", data: this.data.join("\n") };
        this.clear();
      }
    }
  }

  take(line) {
    const [, field, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (field === "data") this.data.push(value);
    else if (field === "event") this.event = value;
    else if (field === "id" && !value.includes("\0")) this.id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
  }
}

/** Fetch JSON. Throws Refused with the server's reason, or Dropped. */
export async function ask(url, options) {
  const response = await given(fetch(url, { cache: "no-store", ...options }));
  if (!response.ok) throw await refusal(response);
  return response.status === 204 ? null : response.json();
}

async function refusal(response) {
  let said;
  try {
    const body = await response.json();
    said = [body.error?.message, body.error, body.message, body.detail].find((text) => typeof text === "string");
  } catch {
    // Not JSON: its status has to do.
  }
  return new Refused(response.status, said ?? `${response.status} ${response.statusText}`);
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const end = (value) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      resolve(value);
    };
    const abort = () => end(false);
    const timer = setTimeout(() => end(true), ms);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort);
  });
}

/**
 * The part of a page that shows a job: `.state`, `.bar`, `.step`, `.steps`, `.error`.
 *
 * Its tones are "busy", "good", "warn" and "bad".
 */
export class JobView {
  constructor(root) {
    this.root = root;
    this.part = Object.fromEntries(
      ["bar", "step", "steps", "error"].map((name) => [name, root.querySelector(`.${name}`)]),
    );
    this.connection = document.querySelector(".state");
  }

  /** Empty it for a new job. */
  begin() {
    this.root.hidden = false;
    this.part.steps.replaceChildren();
    this.fail("");
    this.progress(0, "waiting to begin", "busy");
  }

  /** How far, from 0 to 1, and what is happening. */
  progress(value, step, tone = "busy") {
    const percent = Math.round(100 * value);
    this.part.bar.style.setProperty("--done", value);
    this.part.bar.setAttribute("aria-valuenow", percent);
    this.part.bar.dataset.tone = tone;
    this.part.bar.dataset.percent = `${percent} %`;
    this.part.step.textContent = step;
    this.root.setAttribute("aria-busy", tone === "busy");
  }

  /** A step in the list, new or changed. */
  step(id, text, status, tone, detail = "") {
    let item = this.part.steps.querySelector(`[data-id="${CSS.escape(id)}"]`);
    if (!item) {
      item = document.createElement("li");
      item.dataset.id = id;
      item.append(...["span", "small", "em"].map((tag) => document.createElement(tag)));
      this.part.steps.append(item);
    }
    item.dataset.tone = tone;
    const [name, more, state] = item.children;
    [name.textContent, more.textContent, state.textContent] = [text, detail, status];
    return item;
  }

  /** Why it failed; an empty text: it did not. */
  fail(message) {
    this.part.error.textContent = message;
    this.part.error.hidden = !message;
  }

  /** Say how to follow the stream in a terminal. */
  command(url, headers) {
    const given = Object.entries(headers).map(([name, value]) => `-H "${name}: ${value}"`);
    document.querySelector("footer").hidden = false;
    document.querySelector("footer code").textContent = ["curl -N", new URL(url, location), ...given].join(" ");
  }

  /** Do something that may fail, and show why it did; `unknown` is what 404 means. */
  async attempt(action, unknown) {
    try {
      await action();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.root.hidden = false;
      this.connected("closed");
      if (error instanceof Refused) this.fail(error.status === 404 ? unknown : error.message);
      else if (error instanceof Dropped) this.fail(error.message);
      else throw error;
    }
  }

  /** Whether the page is connected: "idle", "connecting", "live", "reconnecting", "ended", "closed". */
  connected(state) {
    this.connection.dataset.state = state;
    this.connection.textContent = state;
  }
}
