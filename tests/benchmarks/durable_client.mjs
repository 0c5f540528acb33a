// The npm contestant of `bench_durable_client`; see durable_clients.py:
//
//     node durable_client.mjs NODE_MODULES JOB URL COUNT

import { pathToFileURL } from "node:url";

const [modules, job, url, countText] = process.argv.slice(2);
const count = Number(countText);
const entry = `${modules}/@durable-streams/client/dist/index.js`;
const { stream, DurableStream, IdempotentProducer } = await import(pathToFileURL(entry));

const MESSAGE = { n: 100_000, level: "info", message: "something has happened that is worth a line" };
const WRITERS = 100;

async function read(live) {
  let seen = 0;
  const response = await stream({ url, offset: "-1", live });
  for await (const _ of response.jsonStream()) {
    seen += 1;
    if (seen === count) break;
  }
  if (seen !== count) throw new Error(`${seen} of ${count} messages`);
}

async function append() {
  const handle = new DurableStream({ url, contentType: "application/json" });
  async function write() {
    for (let n = 0; n < count / WRITERS; n++) await handle.append(JSON.stringify(MESSAGE));
  }
  await Promise.all(Array.from({ length: WRITERS }, write));
}

async function produce() {
  const handle = new DurableStream({ url, contentType: "application/json" });
  const errors = [];
  const producer = new IdempotentProducer(handle, "producer", { onError: (error) => errors.push(error) });
  for (let n = 0; n < count; n++) producer.append(JSON.stringify(MESSAGE));
  await producer.flush();
  await producer.close();
  if (errors.length) throw errors[0];
}

// With `live: false` it takes one answer and no second one, however much is left; the count ends it in any mode.
const JOBS = { read: () => read("long-poll"), tail: () => read("sse"), append, produce };
const began = performance.now();
const busy = process.cpuUsage();
await JOBS[job]();
const { user, system } = process.cpuUsage(busy);
const figures = {
  seconds: (performance.now() - began) / 1e3,
  busy: (user + system) / 1e6,
  peak: process.resourceUsage().maxRSS / 1024,
};
process.stdout.write(`${JSON.stringify(figures)}\n`, () => process.exit(0));
