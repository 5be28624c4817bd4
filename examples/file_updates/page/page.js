// One EventSource says when something happened, and the other endpoints what there is. What is shown
// of the queue, the watches and the index is asked for anew, a moment after an update that may have
// changed it; so the page is right after any gap. Of each file being processed, the updates
// themselves tell the stage.
"use strict";

const MOST_UPDATES = 500;
const MOST_ITEMS = 50;
const PAUSE = 250; // milliseconds in which updates gather before the page asks
const COOLING = 2000; // milliseconds after which it asks again: items cool down without an update

const at = (id) => document.getElementById(id);
const stream = new URL("api/updates", location.href);
const held = [];
const stages = new Map(); // by path
let done = 0; // since the queue was empty

at("command").textContent = `curl -N ${stream}`;

// ---- asking ------------------------------------------------------------------------------------

async function ask(path, method = "GET", body) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const response = await fetch(`api/${path}`, { method, headers, body: JSON.stringify(body) });
  const value = await response.json();
  if (!response.ok) throw new Error(value.message ?? value.error);
  return value;
}

// Returns a function that has `look` called soon, and once for all calls until then. A look that
// fails is made good by the next, at the latest when the stream is back.
function soon(look) {
  let timer = null;
  const run = async () => {
    try {
      await look();
    } catch {
      // The server is gone, and the stream says so.
    }
    timer = null;
  };
  return () => {
    timer ??= setTimeout(run, PAUSE);
  };
}

const element = (name, text, properties = {}) =>
  Object.assign(document.createElement(name), { textContent: text }, properties);

function tag(text, tone) {
  const made = element("span", text, { className: "tag" });
  made.dataset.tone = tone;
  return made;
}

function quietButton(label, act) {
  const button = element("button", "×", { type: "button", className: "quiet", title: label });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", act);
  return button;
}

// Rebuilds a list, and gives the focus back to the button that had it.
function fill(list, rows) {
  const label = list.contains(document.activeElement) ? document.activeElement.title : null;
  list.replaceChildren(...rows);
  if (label) [...list.querySelectorAll("button")].find((b) => b.title === label)?.focus();
}

// ---- what there is -----------------------------------------------------------------------------

const scanning = new Set();

const showWatches = soon(async () => {
  const { jobs } = await ask("watch/jobs");
  at("no-watches").hidden = jobs.length > 0;
  fill(at("watches"), jobs.map(({ id, path, is_active, recursive }) => {
    const row = document.createElement("li");
    const [state, tone] = !is_active ? ["lost", "bad"]
      : scanning.has(path) ? ["first look", "accent"]
      : [recursive ? "watched" : "watched, first level", "good"];
    row.append(
      element("span", path, { className: "name" }),
      tag(state, tone),
      quietButton(`Stop watching ${path}`, () => ask(`watch/jobs/${id}`, "DELETE").then(showWatches)),
    );
    return row;
  }));
});

const TONES = { cooling_down: "quiet", ready: "warn", processing: "accent" };

const showQueue = soon(async () => {
  const [status, { items }] = await Promise.all([
    ask("queue/status"),
    ask(`queue/items?limit=${MOST_ITEMS}`),
  ]);
  for (const count of at("counts").children)
    count.querySelector("dd").textContent = status[count.dataset.status].toLocaleString();
  at("pause").setAttribute("aria-pressed", String(status.manually_paused));
  at("pause").textContent = status.manually_paused ? "Resume" : "Pause";
  at("pause-reason").textContent = !status.paused ? ""
    : status.scheduler_paused ? "Paused by the scheduler: its conditions are not met."
    : "Paused: what happens is queued, and nothing is processed.";
  fill(at("items"), items.map(row));
  const more = status.total_items - items.length;
  at("more-items").textContent = status.total_items === 0 ? "Nothing to do."
    : more > 0 ? `and ${more.toLocaleString()} more` : "";
  const all = done + status.total_items;
  at("progress").max = Math.max(all, 1);
  at("progress").value = status.total_items ? done : at("progress").max;
  at("progress-text").textContent = status.total_items
    ? `${done.toLocaleString()} of ${all.toLocaleString()} done` : "Everything is done.";
  if (status.total_items === 0) done = 0;
});

function row({ id, file_path, action, status, dest_path, retry_count }) {
  const made = document.createElement("li");
  const path = dest_path ?? file_path;
  const cut = path.lastIndexOf("/") + 1;
  const name = element("span", path.slice(cut), { className: "name", title: path });
  name.append(element("small", path.slice(0, cut)));
  const doing = status === "processing" ? stages.get(path) ?? "processing" : status.replace("_", " ");
  made.append(name);
  if (retry_count) made.append(tag(`failed ${retry_count}×`, "bad"));
  if (action !== "index") made.append(tag(action, "quiet"));
  made.append(tag(doing, TONES[status]));
  if (status !== "processing")
    made.append(quietButton(`Take ${path} out`, () => ask(`queue/items/${id}`, "DELETE").catch(showQueue)));
  return made;
}

const showTotals = soon(async () => {
  const totals = await ask("files/stats");
  for (const name of ["indexed", "skipped", "failed"])
    at(name).textContent = totals[name].toLocaleString();
});

const showAll = () => [showWatches, showQueue, showTotals].forEach((show) => show());

setInterval(() => {
  if (!document.hidden && at("items").children.length) showQueue();
}, COOLING);

// ---- what is done ------------------------------------------------------------------------------

at("pause").addEventListener("click", async () => {
  const paused = at("pause").getAttribute("aria-pressed") === "true";
  await ask(paused ? "queue/resume" : "queue/pause", "POST");
  showQueue();
});

at("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("add-error").textContent = "";
  try {
    await ask("watch", "POST", { directory_path: at("directory").value });
    at("directory").value = "";
  } catch (error) {
    at("add-error").textContent = error.message;
  }
  showWatches();
});

at("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = at("query").value;
  at("results").hidden = false;
  try {
    const { results } = await ask("search", "POST", { query });
    at("found").textContent =
      `${results.length} ${results.length === 1 ? "file" : "files"} for “${query}”`;
    at("hits").replaceChildren(...results.map((result) => hit(result, query)));
  } catch (error) {
    at("found").textContent = error.message;
    at("hits").replaceChildren();
  }
});
at("query").addEventListener("input", () => {
  if (!at("query").value) at("results").hidden = true;
});

function hit({ file, relevance_score }, query) {
  const made = document.createElement("li");
  made.append(
    element("span", relevance_score.toFixed(2), { className: "score", title: "relevance" }),
    element("strong", file.filename),
    element("div", file.path, { className: "path" }),
    marked(file.excerpt || file.summary, query),
  );
  return made;
}

// Returns a paragraph in which the words of the query stand out.
function marked(text, query) {
  const made = document.createElement("p");
  const words = query.match(/[\p{L}\p{N}]+/gu) ?? [];
  if (!words.length) return made;
  // Letters and digits alone: nothing of it is an operator. Every second piece is a word.
  text.split(new RegExp(`(${words.join("|")})`, "iu")).forEach((piece, number) =>
    made.append(number % 2 ? element("mark", piece) : piece));
  return made;
}

// ---- the stream --------------------------------------------------------------------------------

const source = new EventSource(stream);
const say = (state) => {
  at("state").dataset.state = state;
  at("state").textContent = state;
};
source.addEventListener("open", () => {
  say("live");
  stages.clear();
  showAll();
});
// The browser reconnects by itself unless it was told for good that there is nothing here.
source.addEventListener("error", () =>
  say(source.readyState === EventSource.CLOSED ? "closed" : "reconnecting"));
source.addEventListener("update", (event) => {
  const update = { time: new Date(), ...JSON.parse(event.data) };
  follow(update);
  held.push(update);
  if (held.length > MOST_UPDATES) held.shift();
  drawing ??= requestAnimationFrame(draw);
});

// Updates wait in `held` for the next frame, or for as long as the page is held.
let drawing = null;
function draw() {
  drawing = null;
  if (!isHolding()) held.splice(0).forEach(add);
  while (at("updates").rows.length > MOST_UPDATES) at("updates").deleteRow(-1);
  count();
}

const STAGES = { file_parsing: "parsing", file_summarizing: "summarizing", file_embedding: "embedding" };

function follow({ opcode, data }) {
  if (opcode in STAGES) stages.set(data.path, STAGES[opcode]);
  if (["file_complete", "file_skipped", "file_failed"].includes(opcode)) stages.delete(data.path);
  if (["queue_item_completed", "queue_item_failed"].includes(opcode)) done += 1;
  if (opcode === "directory_processing_started") scanning.add(data.path);
  if (["directory_processing_completed", "watch_removed"].includes(opcode)) scanning.delete(data.path);
  if (opcode === "error") scanning.clear();
  if (/^(queue|scheduler|status)/.test(opcode) || opcode in STAGES) showQueue();
  if (/^(watch|directory_processing|error|status)/.test(opcode)) showWatches();
  if (/^(queue_item_(completed|failed)|watch_removed|status)/.test(opcode)) showTotals();
}

const isHolding = () => at("hold").getAttribute("aria-pressed") === "true";

function add({ time, opcode, data }) {
  const made = at("updates").insertRow(0);
  made.dataset.opcode = opcode;
  const clock = element("time", time.toLocaleTimeString(), { dateTime: time.toISOString() });
  made.insertCell().append(clock);
  made.insertCell().append(element("code", opcode));
  made.insertCell().textContent = describe(data);
  filterRow(made);
}

function describe(data) {
  if ("src_path" in data) return `${data.src_path} → ${data.dest_path}`;
  if ("queue" in data) return `${data.files_indexed} files indexed, ${data.queue.total_items} queued`;
  const what = data.path ?? data.file_path ?? data.message ?? data.source ?? "";
  const more = data.error ?? data.reason
    ?? (data.action && `${data.action}, ${data.status.replace("_", " ")}`);
  return more ? `${what} — ${more}` : what;
}

function filterRow(made) {
  made.hidden = !made.textContent.toLowerCase().includes(at("filter").value.toLowerCase());
}

function count() {
  const rows = [...at("updates").rows];
  const shown = rows.filter((each) => !each.hidden).length;
  at("empty").hidden = rows.length > 0;
  document.querySelector("table").hidden = rows.length === 0;
  const waiting = held.length ? `, ${held.length} held` : "";
  at("count").textContent = rows.length ? `${shown} of ${rows.length}${waiting}` : waiting.slice(2);
}

at("filter").addEventListener("input", () => {
  for (const each of at("updates").rows) filterRow(each);
  count();
});
at("hold").addEventListener("click", () => {
  at("hold").setAttribute("aria-pressed", String(!isHolding()));
  draw();
});
at("clear").addEventListener("click", () => {
  held.length = 0;
  at("updates").replaceChildren();
  count();
});
at("controls").addEventListener("submit", (event) => event.preventDefault());
