// Documents are uploaded, and the job that parses them is followed. The job's id is in the page's
// address, so that a reload, or coming back later, goes on with it.
import { ask, follow, JobView } from "./shared/stream.js";
import { SAMPLES } from "./samples.js";

const PROJECT = "v1/projects/proj_demo";
const STAGES = 5; // of the work on one document
const MOST = 200; // spans to show
const MOST_CHUNKS = 50; // of a document
const TONES = { succeeded: "good", partially_succeeded: "warn", failed: "bad", cancelled: "warn" };
const SPAN_TONES = { SUCCESS: "good", ERROR: "bad", CANCELED: "warn" };

const at = (id) => document.getElementById(id);
const view = new JobView(at("job"));
let following; // what ends the stream of the job before this one

const headers = () => ({
  "x-api-key": at("key").value.trim(),
  "x-selected-account-id": at("account").value.trim(),
});
const job = (rest = "") => `${PROJECT}/jobs/${location.hash.slice(1)}${rest}`;

async function parse() {
  view.begin();
  at("result").hidden = true;
  const chosen = at("files").files.length ? [...at("files").files] : SAMPLES[at("samples").value];
  const ids = [];
  for (const file of chosen) {
    view.progress(0, `uploading ${file.name}`);
    const body = new FormData();
    body.append("file", file);
    ids.push((await ask(`${PROJECT}/files`, { method: "POST", headers: headers(), body })).id);
  }
  const parameters = { chunking_options: { strategy: "token_size", chunk_size: at("size").valueAsNumber, chunk_overlap: 0 } };
  const { id } = ids.length === 1
    ? await post("/parse", { source_document_id: ids[0], parameters })
    : await post("/parse/batch", { source_document_ids: ids, parameters });
  history.pushState(null, "", `#${id}`);
  await watch();
}

const post = (path, body) => ask(PROJECT + path, {
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
  view.command(job("/updates"), headers());
  const { items } = await ask(`${PROJECT}/files`, { headers: headers(), signal });
  const names = new Map(items.map(({ id, filename }) => [id, filename]));
  const trace = new Trace(names);
  let status = { status: "pending" };
  let shown;
  const show = () => {
    clearTimeout(shown);
    shown = undefined;
    trace.show();
    const over = status.status in TONES;
    const done = over && TONES[status.status] !== "bad" && status.status !== "cancelled";
    view.progress(done ? 1 : trace.progress(), status.status.replace("_", " "), TONES[status.status]);
    view.fail(status.error ?? "");
  };
  try {
    await follow(job("/updates"), {
      headers: headers(),
      signal,
      onState: (state) => view.connected(state),
      onEvent({ type, data }) {
        const value = JSON.parse(data);
        if (type === "trace_update") trace.take(value);
        if (type === "job_status") status = value;
        shown ??= setTimeout(show, 50); // many spans change at once
        return type === "done";
      },
    });
    if (signal.aborted) return;
    show();
    view.connected("ended");
    await showResult(names, signal);
  } finally {
    clearTimeout(shown);
    if (!signal.aborted) at("cancel").disabled = true;
  }
}

/** The spans of a job: each is put in the place of the one of its id. */
class Trace {
  spans = new Map();

  constructor(names) {
    this.names = names;
  }

  take(span) {
    this.spans.set(span.id, span);
  }

  get root() {
    return [...this.spans.values()].find((span) => !this.spans.has(span.parent_id));
  }

  /** Every span and how deep it is, each behind its parent, and in the order in which they began. */
  get tree() {
    const below = Map.groupBy(this.spans.values(), (span) => span.parent_id);
    const walk = (span, depth) => [
      [span, depth],
      ...(below.get(span.id) ?? [])
        .sort((one, other) => one.start_timestamp.localeCompare(other.start_timestamp))
        .flatMap((each) => walk(each, depth + 1)),
    ];
    return this.root ? walk(this.root, 0) : [];
  }

  /** Of several documents, how many are over; of one, how many of its stages. */
  progress() {
    const { root } = this;
    if (!root) return 0;
    if (root.metadata?.total) return 1 - root.metadata.pending / root.metadata.total;
    const stages = [...this.spans.values()].filter((span) => span.parent_id === root.id && span.status === "SUCCESS");
    return Math.min(1, new Set(stages.map((span) => span.name)).size / STAGES);
  }

  show() {
    const { root } = this;
    if (!root) return;
    const begin = Date.parse(root.start_timestamp);
    const times = [...this.spans.values()].map((span) => Date.parse(span.end_timestamp ?? span.start_timestamp));
    const whole = Math.max(1, (root.end_timestamp ? 0 : 1) + Math.max(...times) - begin);
    let shown = this.tree;
    // Of many, those that are not too deep, so that there is something of each document.
    for (let depth = 4; shown.length > MOST && depth > 0; depth--) shown = shown.filter((each) => each[1] <= depth);
    const rows = shown.slice(0, MOST).map(([span, depth]) => {
      const from = Date.parse(span.start_timestamp) - begin;
      const to = (span.end_timestamp ? Date.parse(span.end_timestamp) : begin + whole) - begin;
      const row = view.step(
        span.id,
        span.input?.title ?? this.names.get(span.input?.source_document_id) ?? span.name.replaceAll("_", " "),
        (span.status ?? "running").toLowerCase(),
        SPAN_TONES[span.status] ?? "busy",
        span.end_timestamp ? `${to - from} ms` : "",
      );
      row.style.setProperty("--depth", depth);
      row.style.setProperty("--from", from / whole);
      row.style.setProperty("--to", to / whole);
      return row;
    });
    view.part.steps.replaceChildren(...rows);
  }
}

/** Show what became of each document, and its chunks. */
async function showResult(names, signal) {
  const { source_id, status, error, result, progress } = await ask(job(), { headers: headers(), signal });
  const documents = progress?.child_jobs ?? [
    { source_document_id: source_id, status, error, parse_result_id: result?.parse_result_id },
  ];
  at("documents").replaceChildren();
  at("chunks").replaceChildren();
  at("result").hidden = false;
  for (const each of documents) {
    const name = names.get(each.source_document_id) ?? each.source_document_id;
    const row = at("documents").insertRow();
    let said = each.error ?? "";
    if (each.parse_result_id) {
      const parsed = await ask(`${PROJECT}/parse/${each.parse_result_id}`, { headers: headers(), signal });
      said = `${parsed.format}: ${parsed.blocks.length} blocks, ${parsed.chunks.length} chunks`;
      const heading = document.createElement("h3");
      heading.textContent = name;
      at("chunks").append(heading, ...parsed.chunks.slice(0, MOST_CHUNKS).map(chunk));
      if (parsed.chunks.length > MOST_CHUNKS) {
        const more = document.createElement("p");
        more.textContent = `and ${parsed.chunks.length - MOST_CHUNKS} more`;
        at("chunks").append(more);
      }
    }
    for (const text of [name, each.status, said]) row.insertCell().textContent = text;
  }
}

function chunk({ index, text, tokens }) {
  const [details, summary, more, content] = ["details", "summary", "small", "pre"].map((tag) => document.createElement(tag));
  more.textContent = ` ${tokens} tokens`;
  summary.append(`${index + 1}. ${text.slice(0, 80).replaceAll("\n", " ")}…`, more);
  content.textContent = text;
  details.append(summary, content);
  return details;
}

const attempt = (action) => view.attempt(
  action,
  "The server does not know this job: it was restarted without keeping it, or the job is another account's. Parse again.",
);

at("start").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(parse);
});
at("cancel").addEventListener("click", () => {
  post(`/jobs/${location.hash.slice(1)}/cancel`, {}).catch((error) => view.fail(error.message));
});
addEventListener("popstate", () => location.hash && attempt(watch));

at("controls").disabled = false;
if (location.hash) attempt(watch);
