// Two drawings are uploaded, and the job that compares them is followed. The job's id is in the
// page's address, so that a reload, or coming back later, goes on with it.
import { ask, follow, JobView } from "./shared/stream.js";
import { draw } from "./plan.js";

const at = (id) => document.getElementById(id);
const view = new JobView(at("job"));
let following; // what ends the stream of the job before this one

// What the messages of a job begin with, in the order in which they come.
const STEPS = [
  ["Reading the drawings", "reads both drawings"],
  ["Aligning the drawings", "finds how far they are shifted"],
  ["Comparing tile row", "compares them tile by tile"],
  ["Writing the overlay images", "writes the overlay"],
];
const OVER = { completed: "good", failed: "bad", canceled: "warn" };

const key = () => at("key").value.trim();
const headers = () => ({ Authorization: `Bearer ${key()}` });
const job = (rest = "") => `jobs/${location.hash.slice(1)}${rest}`;

async function compare() {
  view.begin();
  at("result").hidden = true;
  const block = {};
  for (const name of ["old", "new"]) {
    view.progress(0, `uploading the drawing ${name === "old" ? "before" : "after"}`);
    block[name] = await upload(name);
  }
  const { job_id } = await post("compare", {
    old_id: block.old, new_id: block.new, type: "Block", analyze: ["changes"],
  });
  history.pushState(null, "", `#${job_id}`);
  await watch();
}

async function upload(name) {
  const [file] = at(name).files;
  const canvas = at(`${name}-sample`);
  const content = file ?? await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const { data } = await post("files", {
    project_id: "prj_demo", filename: file?.name ?? `${name}.png`, content_type: "image/png",
  });
  return (await ask(data.upload_url, { method: "PUT", body: content })).data.block_id;
}

const post = (path, body) => ask(path, {
  method: "POST",
  headers: { ...headers(), "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

async function watch() {
  following?.abort();
  const { signal } = (following = new AbortController());
  view.begin();
  at("result").hidden = true;
  at("cancel").disabled = false;
  view.command(job("/stream"), headers());
  let progress = 0;
  let step = -1;
  let results;
  try {
    await follow(job("/stream"), {
      headers: headers(),
      signal,
      onState: (state) => view.connected(state),
      onEvent({ type, data }) {
        const event = JSON.parse(data);
        progress = event.progress ?? progress;
        if (event.message) {
          step = stepOf(event.message);
          view.progress(progress, event.message);
        } else {
          view.progress(type === "completed" ? 1 : progress, event.status.toLowerCase(), OVER[type]);
        }
        showSteps(type, step);
        view.fail(event.error?.message ?? "");
        results = event.results;
        return type in OVER;
      },
    });
    if (signal.aborted) return;
    view.connected("ended");
    // Who comes late is told the end alone; how far it came, the job knows.
    const { data } = await ask(job(), { headers: headers(), signal });
    const end = data.status.toLowerCase();
    showSteps(end, stepOf(data.message));
    view.progress(end === "completed" ? 1 : data.progress ?? 0, end, OVER[end]);
    if (results) await show(results, signal);
  } finally {
    if (!signal.aborted) at("cancel").disabled = true;
  }
}

const stepOf = (message) => STEPS.findIndex(([begins]) => message?.startsWith(begins));

function showSteps(type, step) {
  STEPS.forEach(([id, text], number) => {
    if (type === "completed" || number < step) view.step(id, text, "done", "good");
    else if (number > step) view.step(id, text, type in OVER ? "not done" : "to come", "");
    else if (type in OVER) view.step(id, text, type, OVER[type]);
    else view.step(id, text, "running", "busy");
  });
}

async function show({ overlay, changes = [] }, signal) {
  const { data } = await ask(`overlays/${overlay.overlay_id}`, { headers: headers(), signal });
  const image = new Image();
  image.alt = "The overlay of the two drawings";
  const marks = changes.map(() => document.createElement("mark"));
  image.onload = () => changes.forEach(({ bounds }, number) => {
    const percent = (value, whole) => `${100 * value / whole}%`;
    Object.assign(marks[number].style, {
      left: percent(bounds.x_min, image.naturalWidth),
      top: percent(bounds.y_min, image.naturalHeight),
      width: percent(bounds.x_max - bounds.x_min, image.naturalWidth),
      height: percent(bounds.y_max - bounds.y_min, image.naturalHeight),
    });
  });
  for (const tab of document.querySelectorAll("[data-picture]")) {
    tab.onclick = () => {
      for (const each of document.querySelectorAll("[data-picture]")) {
        each.setAttribute("aria-pressed", each === tab);
      }
      image.src = data[tab.dataset.picture];
    };
  }
  document.querySelector("[data-picture]").click();
  at("figure").replaceChildren(image, ...marks);
  at("changes").replaceChildren(...changes.map((change, number) => row(change, marks[number])));
  at("score").textContent = `${data.summary.changes} changes, score ${data.score}`;
  at("result").hidden = false;
}

/** A change in the table: its place is marked while it has the pointer or the focus. */
function row({ description, severity }, mark) {
  const row = document.createElement("tr");
  const button = document.createElement("button");
  button.textContent = description;
  row.insertCell().append(button);
  row.insertCell().textContent = severity;
  for (const [on, here] of [["mouseenter", true], ["mouseleave", false], ["focusin", true], ["focusout", false]]) {
    row.addEventListener(on, () => mark.classList.toggle("here", here));
  }
  return row;
}

const attempt = (action) => view.attempt(
  action,
  "The server does not know this job: it was restarted without keeping it, or the job is another project's. Compare again.",
);

at("start").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(compare);
});
at("cancel").addEventListener("click", () => {
  post(job("/cancel"), {}).catch((error) => view.fail(error.message));
});
for (const name of ["old", "new"]) {
  at(name).addEventListener("change", async ({ target }) => {
    const canvas = at(`${name}-sample`);
    const picture = target.files[0] && await createImageBitmap(target.files[0]).catch(() => null);
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    if (!picture) return;
    const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
    canvas.getContext("2d").drawImage(picture, 0, 0, picture.width * scale, picture.height * scale);
  });
}
addEventListener("popstate", () => location.hash && attempt(watch));

draw(at("old-sample"), { revision: 1 });
draw(at("new-sample"), { revision: 2 });
at("controls").disabled = false;
if (location.hash) attempt(watch);
