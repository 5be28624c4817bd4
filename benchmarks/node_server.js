// Streams on node:http: as little as that takes or, given the folder of better-sse, by way of that.
// It prints its port; each line on standard input, `COUNT RATE`, has it publish COUNT events, RATE in
// a second (0: all at once).
const http = require("node:http");
const readline = require("node:readline");

const HEAD = { "content-type": "text/event-stream", "cache-control": "no-cache" };
const streams = new Set();
let published = 0;

let open = (request, response) => {
  response.writeHead(200, HEAD);
  response.write(": connected\n\n");
  streams.add(response);
  response.on("close", () => streams.delete(response));
};

let send = (data, id) => {
  const bytes = Buffer.from(`id: ${id}\nevent: progress\ndata: ${data}\n\n`);
  for (const stream of streams) stream.write(bytes);
};

if (process.argv[2]) {
  const { createChannel, createSession } = require(process.argv[2]);
  const channel = createChannel();
  open = async (request, response) => {
    channel.register(await createSession(request, response, { serializer: String }));
  };
  send = (data, id) => channel.broadcast(data, "progress", { eventId: id });
}

const server = http.createServer((request, response) => {
  if (request.url === "/hello") response.end("hello\n");
  else open(request, response);
});
server.keepAliveTimeout = 75_000;

function publish() {
  const at = process.hrtime.bigint(); // CLOCK_MONOTONIC
  const data = `{"at":${at},"job":"7f3a91c2","state":"running","step":"render","done":0.4375}`;
  send(data, `3f9a1c07-1735689600000-${published++}`);
}

server.listen(0, "127.0.0.1", 1024, () => console.log(server.address().port));

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [count, rate] = line.split(" ").map(Number);
  if (rate === 0) {
    for (let n = 0; n < count; n++) publish();
    return;
  }
  const start = performance.now();
  let n = 0;
  (function next() {
    while (n < count && performance.now() >= start + (n * 1000) / rate) { publish(); n++; }
    if (n < count) setTimeout(next, start + (n * 1000) / rate - performance.now());
  })();
}).on("close", () => process.exit());
