// The script that the examples' pages share, on fakes of what a browser gives it.
import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { follow, Parser, Refused } from "../../examples/page/stream.js";

const settled = async () => {
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
};
const message = (data, type = "message") => ({ type, data });

test("events are read as the standard says, however they are cut", () => {
  const cases = [
    ["data: a\n\n", [message("a")]],
    ["data:a\n\ndata:  b\n\n", [message("a"), message(" b")]],
    ["data: a\r\ndata: b\r\n\r\n", [message("a\nb")]],
    ["data: a\r\rdata: b\r\r", [message("a"), message("b")]],
    ["event: x\ndata: a\n\ndata: b\n\n", [message("a", "x"), message("b")]],
    [": comment\n\ndata\n\n", [message("")]],
    ["event: x\n\nid: 1\n\nretry: 5\n\n", []],
    ["data: a:b\nnothing\nother: c\n\n", [message("a:b")]],
    ["data: a\n\ndata: unfinished\n", [message("a")]],
  ];
  for (const [text, expected] of cases) {
    for (let cut = 0; cut <= text.length; cut++) {
      const parser = new Parser();
      const events = [text.slice(0, cut), text.slice(cut)].flatMap((part) => [...parser.feed(part)]);
      assert.deepEqual(events, expected, `${JSON.stringify(text)} cut at ${cut}`);
    }
  }
});

test("an id holds until the next one, and counts when its block is over", () => {
  const parser = new Parser();
  const feed = (text) => [...parser.feed(text)] && parser.lastEventId;
  assert.equal(feed("id: 1\ndata: a\n"), "");
  assert.equal(feed("\n"), "1");
  assert.equal(feed("data: b\n\n"), "1");
  assert.equal(feed("id: 2\0\n\n"), "1");
  assert.equal(feed("id: 2\n"), "1");
  parser.reset();
  assert.equal(feed("\n"), "1");
  assert.equal(feed("id\n\n"), "");
});

test("only digits are a time", () => {
  const parser = new Parser();
  const retry = (text) => [...parser.feed(text)] && parser.retry;
  assert.equal(retry("retry: 1234\n\n"), 1234);
  for (const bad of ["-1", "+1", "1.5", "x", ""]) assert.equal(retry(`retry: ${bad}\n\n`), 1234);
});

// ---- following -----------------------------------------------------------------------------------

let asked;
let answers;
let states;

beforeEach(() => {
  [asked, answers, states] = [[], [], []];
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  mock.method(Math, "random", () => 1);
  mock.method(globalThis, "fetch", async (url, { headers, signal }) => {
    asked.push(headers);
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer(signal);
  });
});

const respond = (status, body, headers = {}) => () => new Response(body, { status, headers });
const stream = (text, { open = false } = {}) => (signal) => {
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(text));
      if (!open) controller.close();
      else signal.addEventListener("abort", () => controller.error(new DOMException("", "AbortError")));
    },
  });
  return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
};
const start = (options = {}) => follow("/x", {
  onEvent: ({ data }) => data === "end",
  onState: (state) => states.push(state),
  ...options,
});

test("a stream that ends without its last event is opened again, with the last id", async () => {
  answers = [stream("id: 7\ndata: a\n\n"), stream("data: end\n\n")];
  const following = start({ headers: { Authorization: "x" } });
  await settled();
  mock.timers.tick(500);
  await following;
  assert.deepEqual(states, ["connecting", "live", "reconnecting", "live"]);
  assert.equal(asked[0]["Last-Event-ID"], undefined);
  assert.equal(asked[1]["Last-Event-ID"], "7");
  assert.equal(asked[1].Authorization, "x");
});

test("204 is the end", async () => {
  answers = [respond(204, null)];
  await start();
});

test("a refusal is thrown with the server's reason", async () => {
  const reasons = [
    [{ code: "X", error: "Job not found" }, "Job not found"],
    [{ detail: "No such job" }, "No such job"],
    [{ detail: [{ msg: "x" }] }, "404 "],
    [null, "404 "],
  ];
  for (const [body, reason] of reasons) {
    answers = [respond(404, body && JSON.stringify(body))];
    await assert.rejects(start(), (error) => error instanceof Refused && error.message === reason);
  }
});

test("what is no event stream is refused", async () => {
  answers = [respond(200, "{}", { "Content-Type": "application/json" })];
  await assert.rejects(start(), Refused);
});

test("a busy server is asked again when it says", async () => {
  for (const status of [429, 503]) {
    answers = [respond(status, "", { "Retry-After": "7" }), stream("data: end\n\n")];
    const following = start();
    await settled();
    mock.timers.tick(6999);
    await settled();
    assert.equal(answers.length, 1);
    mock.timers.tick(1);
    await following;
  }
});

test("a server that is not there is asked at longer and longer intervals", async () => {
  answers = [1, 2, 3, 4, 5, 6].map(() => new TypeError("no network"));
  answers.push(stream("data: end\n\n"));
  const following = start();
  for (const delay of [500, 1000, 2000, 4000, 4000, 4000]) {
    await settled();
    const left = answers.length;
    mock.timers.tick(delay - 1);
    await settled();
    assert.equal(answers.length, left, `${delay}`);
    mock.timers.tick(1);
    await settled();
    assert.equal(answers.length, left - 1, `${delay}`);
  }
  await following;
});

test("silence is not taken for life", async () => {
  answers = [stream(": connected\n\n", { open: true }), stream("data: end\n\n")];
  const following = start();
  await settled();
  mock.timers.tick(45_000);
  await settled();
  assert.equal(states.at(-1), "reconnecting");
  mock.timers.tick(500);
  await following;
});

test("an aborted one stops, connected or waiting", async () => {
  for (const answer of [stream("data: a\n\n", { open: true }), new TypeError("no network")]) {
    answers = [answer];
    const abort = new AbortController();
    const following = start({ signal: abort.signal });
    await settled();
    abort.abort();
    await following;
  }
});

test("an error of the page itself is not taken for one of the network", async () => {
  answers = [stream("data: a\n\n")];
  await assert.rejects(start({ onEvent: () => undefined.nothing }), TypeError);
});
