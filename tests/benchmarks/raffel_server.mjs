// Raffel's own server with the benchmark's procedures, for a checkout of it that was built:
//
//     node raffel_server.mjs DIR HTTP_PORT TCP_PORT
//
// It listens where it is told to, since it cannot say where it does; it ends with its standard input.

import { setTimeout } from "node:timers/promises";
import { pathToFileURL } from "node:url";

const [dir, httpPort, tcpPort] = process.argv.slice(2);
const { createServer } = await import(pathToFileURL(`${dir}/dist/index.js`));

const host = "127.0.0.1";
const server = createServer({
  host,
  port: Number(httpPort),
  websocket: { path: "/ws" },
  tcp: { host, port: Number(tcpPort) },
});
const FIELDS = { n: 1, level: "info", message: "something has happened" };
const LONG = { text: "x".repeat(1024) };
let made = 0;

function repeat(item) {
  return async function* ({ count }) {
    made = 0;
    for (let n = 0; n < count; n++) {
      made += 1;
      yield item;
    }
  };
}

server.stream("raw").handler(repeat(FIELDS));
server.stream("long").handler(repeat(LONG));
server.stream("ticks").handler(async function* ({ count }) {
  for (let n = 0; n < count; n++) {
    await setTimeout(2);
    yield { at: Number(process.hrtime.bigint()) };
  }
});
server.procedure("ping").handler(async ({ number }) => number);
server.procedure("made").handler(async () => made);

await server.start();
const urls = {
  http: `http://${host}:${httpPort}`,
  ws: `ws://${host}:${httpPort}/ws`,
  tcp: `tcp://${host}:${tcpPort}`,
  pid: String(process.pid),
};
process.stdout.write(`${JSON.stringify(urls)}\n`);
process.stdin.on("end", () => process.exit(0)).resume();
