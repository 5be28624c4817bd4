// The live feed: one EventSource, the newest update on top, at most MOST of them.
"use strict";

const MOST = 500;
const at = (id) => document.getElementById(id);
const stream = new URL("api/updates", location.href);
const held = [];
let shown = 0;

at("command").textContent = `curl -N ${stream}`;

const source = new EventSource(stream);
const say = (state) => {
  at("state").dataset.state = state;
  at("state").textContent = state;
};
source.addEventListener("open", () => say("live"));
// The browser reconnects by itself unless it was told for good that there is nothing here.
source.addEventListener("error", () =>
  say(source.readyState === EventSource.CLOSED ? "closed" : "reconnecting"));
source.addEventListener("update", (event) => {
  const update = { time: new Date(), ...JSON.parse(event.data) };
  if (isHolding()) {
    held.push(update);
    if (held.length > MOST) held.shift();
    count();
  } else {
    add(update);
  }
});

const isHolding = () => at("hold").getAttribute("aria-pressed") === "true";

function add({ time, opcode, data }) {
  const row = at("updates").insertRow(0);
  row.dataset.opcode = opcode;
  const clock = document.createElement("time");
  clock.dateTime = time.toISOString();
  clock.textContent = time.toLocaleTimeString();
  row.insertCell().append(clock);
  const name = document.createElement("code");
  name.textContent = opcode;
  row.insertCell().append(name);
  row.insertCell().textContent = describe(data);
  while (at("updates").rows.length > MOST) at("updates").deleteRow(-1);
  filterRow(row);
  count();
}

function describe(data) {
  if ("src_path" in data) return `${data.src_path} → ${data.dest_path}`;
  return data.path ?? data.message ?? "";
}

function filterRow(row) {
  row.hidden = !row.textContent.toLowerCase().includes(at("filter").value.toLowerCase());
}

function count() {
  const rows = [...at("updates").rows];
  shown = rows.filter((row) => !row.hidden).length;
  at("empty").hidden = rows.length > 0;
  document.querySelector("table").hidden = rows.length === 0;
  const waiting = held.length ? `, ${held.length} held` : "";
  at("count").textContent = rows.length ? `${shown} of ${rows.length}${waiting}` : waiting.slice(2);
}

at("filter").addEventListener("input", () => {
  for (const row of at("updates").rows) filterRow(row);
  count();
});
at("hold").addEventListener("click", () => {
  at("hold").setAttribute("aria-pressed", String(!isHolding()));
  if (!isHolding()) held.splice(0).forEach(add);
  count();
});
at("clear").addEventListener("click", () => {
  held.length = 0;
  at("updates").replaceChildren();
  count();
});
at("controls").addEventListener("submit", (event) => event.preventDefault());
