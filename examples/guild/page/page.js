// A brief is submitted, and its project followed. The project's id is in the page's address, so
// that a reload, or coming back later, goes on with it.
import { ask, follow, JobView } from "./shared/stream.js";

const at = (id) => document.getElementById(id);
const view = new JobView(at("job"));
let following; // what ends the stream of the project before this one

const BRIEFS = {
  link: "A bakery. See [our plans](#plans).\n\n## Bread\nRye and wheat.\n",
  section: "Sections: hero, pricing\n\nA bakery that does not say what anything costs.\n",
  circle: "A bakery.\n\n## Bread\n[[Rolls]]\n\n## Rolls\n[[Bread]]\n",
  empty: "----------\n",
};

const TONES = { pending: "", running: "busy", completed: "good", failed: "bad", cancelled: "warn" };

const headers = () => ({ Authorization: `Bearer ${at("token").value.trim()}` });
const project = (rest = "") => `projects/${location.hash.slice(1)}${rest}`;

async function submit() {
  const briefText = at("brief").value;
  const title = /^# +(.{1,80})$/m.exec(briefText)?.[1] ?? "Untitled";
  const { projectId } = await ask("briefs", {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json", "X-Idempotency-Key": crypto.randomUUID() },
    body: JSON.stringify({ title, briefText }),
  });
  history.pushState(null, "", `#${projectId}`);
  await watch();
}

async function watch() {
  following?.abort();
  const { signal } = (following = new AbortController());
  view.begin();
  at("name").textContent = "Project";
  view.command(project("/sse"), headers());
  at("result").hidden = true;
  at("site").replaceChildren();
  let showing = Promise.resolve();
  await follow(project("/sse"), {
    headers: headers(),
    signal,
    onState: (state) => view.connected(state),
    onEvent({ data }) {
      const { status, progress, currentStep } = JSON.parse(data);
      const over = status === "done" || status === "failed";
      view.progress(progress, status === "failed" ? status : currentStep, { done: "good", failed: "bad" }[status]);
      view.fail(status === "failed" ? currentStep : "");
      showing = showing.then(() => show(signal));
      return over;
    },
  });
  if (signal.aborted) return;
  view.connected("ended");
  await showing;
}

/** Show what the stream does not tell: the tasks, and what was built. */
async function show(signal) {
  const { title, tasks, deliverables, siteUrl } = await ask(project(), { headers: headers(), signal });
  at("name").textContent = title;
  for (const { id, step, status } of tasks) view.step(id, step, status, TONES[status]);
  if (!siteUrl || !at("result").hidden) return;
  at("files").replaceChildren(...deliverables.map(row));
  // A new frame each time: what an old one shows next would be a step in the page's history.
  const frame = document.createElement("iframe");
  frame.title = "The site";
  frame.sandbox = "";
  frame.src = siteUrl;
  at("site").replaceChildren(frame);
  at("result").hidden = false;
}

function row({ filename, fileSizeBytes, url }) {
  const row = document.createElement("tr");
  const link = document.createElement("a");
  [link.href, link.textContent, link.target] = [url, filename, "_blank"];
  row.insertCell().append(link);
  row.insertCell().textContent = `${fileSizeBytes.toLocaleString()} bytes`;
  row.lastChild.className = "number";
  return row;
}

const attempt = (action) => view.attempt(
  action,
  "The server does not know this project: it was restarted without keeping it, or the project is another account's. Build it again.",
);

at("start").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(submit);
});
at("examples").addEventListener("change", ({ target }) => {
  if (target.value) at("brief").value = BRIEFS[target.value];
  target.value = "";
});
addEventListener("popstate", () => location.hash && attempt(watch));

at("brief").value ||= await (await fetch("brief.md")).text();
at("controls").disabled = false;
if (location.hash) attempt(watch);
