// What the published client does with a server, whose URL each scenario is given. Each returns what it found.
import assert from "node:assert/strict";
import { DurableStream, FetchError, stream } from "@durable-streams/client";

let count = 0;
const fresh = (base) => `${base}/npm-${process.pid}-${++count}`;
const decoder = new TextDecoder();

/** Which field of an error says what the server answered; the client has an error class for each layer. */
async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    return error.status ?? error.code ?? String(error);
  }
  return "no error";
}

export async function text(base) {
  const url = fresh(base);
  const handle = await DurableStream.create({ url, contentType: "text/plain" });
  await handle.append("one ");
  await handle.append("zwölf ");
  const { offset, contentType } = await handle.head();
  await handle.append("三");
  const all = await stream({ url, live: false });
  const rest = await stream({ url, live: false, offset });
  const found = [await all.text(), await rest.text(), contentType, all.upToDate];
  await handle.delete();
  return [...found, (await DurableStream.head({ url })).exists];
}

export async function batches(base, items) {
  const url = fresh(base);
  const handle = await DurableStream.create({ url, contentType: "application/json" });
  const wanted = Array.from({ length: items }, (_, item) => ({ item, text: `${item} ü\u2028` }));
  await Promise.all(wanted.map((value) => handle.append(JSON.stringify(value))));
  const found = await (await stream({ url, live: false })).json();
  assert.deepEqual(found, wanted);
  const streamed = [];
  for await (const value of (await stream({ url, live: false })).jsonStream()) streamed.push(value.item);
  return streamed.length;
}

/** A reader that begins before anything is there, and is told everything, then the end. */
export async function follow(base, live) {
  const url = fresh(base);
  const handle = await DurableStream.create({ url, contentType: "application/json" });
  const response = await stream({ url, live });
  const found = [];
  const reading = (async () => {
    for await (const value of response.jsonStream()) found.push(value);
  })();
  for (let round = 0; round < 5; round += 1) {
    await handle.append(JSON.stringify([round, "a\r\nb"]));
    while (found.length <= 2 * round) await new Promise((resolve) => setTimeout(resolve, 5));
    await handle.append(JSON.stringify([[round]]));
    while (found.length < 2 * round + 2) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await handle.close({ body: JSON.stringify("the end") });
  await reading;
  return [found, response.streamClosed];
}

/** All bytes, in an order that is no text's, by SSE: they come as base64. */
export async function binary(base) {
  const url = fresh(base);
  const handle = await DurableStream.create({ url, contentType: "application/octet-stream" });
  const wanted = Uint8Array.from({ length: 70_000 }, (_, index) => (index * 31 + (index >> 8)) % 256);
  await handle.append(wanted.subarray(0, 1));
  const response = await stream({ url, live: "sse" });
  const found = [];
  const reading = (async () => {
    for await (const chunk of response.bodyStream()) found.push(...chunk);
  })();
  for (let from = 1; from < wanted.length; from += 23_333) await handle.append(wanted.subarray(from, from + 23_333));
  await handle.close();
  await reading;
  assert.deepEqual(Uint8Array.from(found), wanted);
  return found.length;
}

export async function closing(base) {
  const url = fresh(base);
  const handle = await DurableStream.create({ url, contentType: "text/plain" });
  await handle.append("first, ");
  const { finalOffset } = await handle.close({ body: "last" });
  const again = await handle.close();
  const late = await refusal(handle.append("too late"));
  const response = await stream({ url, live: true });
  const read = await response.text();
  const head = await handle.head();
  const born = await DurableStream.create({ url: fresh(base), contentType: "text/plain", body: "all", closed: true });
  const tail = await stream({ url: born.url, live: "long-poll", offset: (await born.head()).offset });
  return {
    read,
    isClosed: [response.streamClosed, head.streamClosed, (await born.head()).streamClosed, tail.streamClosed],
    isSameEnd: again.finalOffset === finalOffset && head.offset === finalOffset,
    late,
  };
}

/** A fork is made by headers; this client has no method for it. */
export async function forks(base) {
  const url = fresh(base);
  const source = await DurableStream.create({ url, contentType: "text/plain" });
  await source.append("shared ");
  const { offset } = await source.head();
  await source.append("of the source");
  const forked = { "Stream-Forked-From": new URL(url).pathname, "Stream-Fork-Offset": offset };
  const fork = await DurableStream.create({ url: fresh(base), contentType: "text/plain", headers: forked });
  await fork.append("of the fork");
  const read = async (of) => (await stream({ url: of.url, live: false })).text();
  const found = [await read(source), await read(fork)];
  await source.delete();
  return [...found, await refusal(read(source)), await read(fork)];
}

export async function errors(base) {
  const url = fresh(base);
  const options = { backoffOptions: { maxRetries: 0 } };
  const handle = await DurableStream.create({ url, contentType: "text/plain", ttlSeconds: 60 });
  await handle.append("b", { seq: "b" });
  const missing = new DurableStream({ url: fresh(base), contentType: "text/plain", ...options });
  return {
    missing: await refusal(stream({ url: missing.url, live: false, ...options })),
    appendMissing: await refusal(missing.append("x")),
    otherType: await refusal(DurableStream.create({ url, contentType: "application/json", ...options })),
    sequence: await refusal(handle.append("a", { seq: "a" })),
    offset: await refusal(stream({ url, live: false, offset: "not,an&offset", ...options })),
    same: (await DurableStream.create({ url, contentType: "text/plain", ttlSeconds: 60 })).contentType,
    isFetchError: (await stream({ url: missing.url, live: false, ...options }).catch((error) => error)) instanceof FetchError,
  };
}

/** Readers that are left in the middle: the server goes on serving. */
export async function aborts(base, live) {
  const url = fresh(base);
  const handle = await DurableStream.create({ url, contentType: "text/plain" });
  await handle.append("begun");
  for (let round = 0; round < 5; round += 1) {
    const controller = new AbortController();
    const response = await stream({ url, live, signal: controller.signal });
    const reader = response.bodyStream().getReader();
    assert.equal(decoder.decode((await reader.read()).value), "begun");
    const next = reader.read().catch(() => ({ done: true }));
    controller.abort();
    await next;
  }
  await handle.append(" and ended");
  return (await stream({ url, live: false })).text();
}
