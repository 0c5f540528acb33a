// The reference server of Durable Streams from an npm installation:
//
//     node durable_reference.mjs NODE_MODULES [DATA_DIRECTORY]
//
// In memory without a directory; `bare` in its place is Node's own HTTP server with an empty answer.
// It ends with its standard input.

import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

console.log = console.info = () => {}; // its log, where our line is to be

const [modules, directory] = process.argv.slice(2);
const host = "127.0.0.1";

async function startReference() {
  const entry = `${modules}/@durable-streams/server/dist/index.js`;
  const { DurableStreamTestServer } = await import(pathToFileURL(entry));
  const server = new DurableStreamTestServer({ host, port: 0, ...(directory && { dataDir: directory }) });
  await server.start();
  return server.url;
}

async function startBare() {
  const server = createServer((request, response) => {
    request.resume().on("end", () => response.writeHead(204).end());
  });
  await new Promise((resolve) => server.listen(0, host, resolve));
  return `http://${host}:${server.address().port}`;
}

const url = directory === "bare" ? await startBare() : await startReference();
process.stdout.write(`${JSON.stringify({ url: `${url}/v1/stream`, pid: String(process.pid) })}\n`);
process.stdin.on("end", () => process.exit(0)).resume();
