// What a page does with a server of ours. Each function connects, claims, and leaves nothing behind.
import assert from "node:assert/strict";
import { CodecError, ConnectionLost, LocalProtocolError, RpcError, StreamStopped, connect } from "../../../trio_streams/browser/client.js";

/** Connect for as long as the function. */
const using = (use, options) => async (url, ...rest) => {
  const client = await connect(url, options);
  try {
    return await use(client, ...rest);
  } finally {
    client.close();
    assert.equal(await client.closed, null);
  }
};

const code = (expected, message) => (error) => {
  assert.ok(error instanceof RpcError, String(error));
  assert.equal(error.code, expected);
  if (message !== undefined) assert.match(error.message, message);
  return true;
};

const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

/** As `ReadableStream.from`, which some browsers lack. */
function streamOf(items) {
  const iterator = items[Symbol.asyncIterator]?.() ?? items[Symbol.iterator]();
  return new ReadableStream({
    async pull(controller) {
      const { value, done } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}

async function until(isSo) {
  while (!isSo()) await turn();
}

export const calls = using(async (client) => {
  assert.equal(await client.call("double", 21), 42);
  assert.equal(await client.call("length", "ü€😀".repeat(1000)), 3000);
  assert.deepEqual(await client.call("same", { "ü": ["😀", null, 1.5, true, "\u2028"] }), { "ü": ["😀", null, 1.5, true, "\u2028"] });
  assert.equal(await client.call("nothing"), null);
  assert.deepEqual(await client.call("metadata", undefined, { metadata: { who: "Ada €" } }), { who: "Ada €" });
  assert.equal(client.statistics().streams, 0);
});

export const errors = using(async (client) => {
  await assert.rejects(client.call("refuse"), (error) => {
    assert.deepEqual([error.name, error.code, error.message, error.details], ["RpcError", "OUT_OF_STOCK", "none left", { left: 0 }]);
    return true;
  });
  await assert.rejects(client.call("boom"), code("INTERNAL"));
  await assert.rejects(client.call("unheard/of"), code("NOT_FOUND", /unheard\/of/));
  await assert.rejects(client.call("double", "no number"), code("INVALID_ARGUMENT"));
  await assert.rejects(client.call("count", 3), code("FAILED_PRECONDITION", /stream\(\)/));
  await assert.rejects(client.call("double", { a: [NaN] }), (error) => error instanceof CodecError && /finite/.test(error.message));
  await assert.rejects(client.call("double", new Uint8Array(1)), CodecError);
  await assert.rejects(client.call("double", 1n), CodecError);
  await assert.rejects(client.call("double", () => 1), CodecError);
  await assert.rejects(client.call("double", 1, { metadata: { a: 1 } }), LocalProtocolError);
  await assert.rejects(client.call("\ud800"), (error) => error.field === "OPEN");
  await assert.rejects(client.call("x".repeat(20_000)), (error) => error.code === "MESSAGE_TOO_LARGE");
  await assert.rejects(client.call("double", 1, { priority: 200 }), (error) => error.field === "priority");
  await assert.rejects(client.upload("sum", 5), TypeError);
  assert.equal(await client.call("double", 4), 8); // and the connection is as good as new
  assert.equal(client.statistics().streams, 0);
});

export const lateError = using(async (client) => {
  const seen = [];
  await assert.rejects(async () => {
    for await (const item of client.stream("failing", 3)) seen.push(item);
  }, code("OUT_OF_STOCK"));
  assert.deepEqual(seen, [0, 1, 2]);
});

export const order = using(async (client, count) => {
  let next = 0;
  for await (const item of client.stream("count", count)) assert.equal(item, next++);
  assert.equal(next, count);
  next = 0;
  for await (const items of client.stream("count", count).runs()) for (const item of items) assert.equal(item, next++);
  assert.equal(next, count);
});

export const slowReader = using(async (client) => {
  const stream = client.stream("endless", undefined, { windowItems: 16 });
  await until(() => stream.statistics().bufferedItems === 16);
  for (let n = 0; n < 20; n += 1) await turn();
  assert.equal(stream.statistics().bufferedItems, 16);
  assert.equal(stream.statistics().windowItems, 16);
  const made = await client.call("made");
  assert.ok(made <= 18, `${made} items were made for a reader that reads nothing`);
  for (let n = 0; n < 100; n += 1) assert.deepEqual(await stream.next(), { value: n, done: false });
  assert.equal(stream.statistics().itemsReceived, 100);
  await stream.return();
});

export const readable = using(async (client) => {
  const stream = client.stream("endless", undefined, { windowItems: 8 });
  const reader = stream.readable.getReader();
  assert.deepEqual(await reader.read(), { value: 0, done: false });
  await until(() => stream.statistics().bufferedItems >= 6); // a grant is due when a quarter was taken
  for (let n = 0; n < 20; n += 1) await turn();
  assert.ok((await client.call("made")) <= 12);
  await reader.cancel();
  const items = [];
  for await (const item of client.stream("count", 5).readable) items.push(item);
  assert.deepEqual(items, [0, 1, 2, 3, 4]);
  await assert.rejects(client.stream("failing", 0).readable.getReader().read(), code("OUT_OF_STOCK"));
});

export const leaveByBreak = using(async (client) => {
  for await (const item of client.stream("endless")) if (item === 3) break;
  await client.call("endless.closed");
  assert.equal(client.statistics().streams, 0);
});

export const leaveBySignal = using(async (client) => {
  const controller = new AbortController();
  const reason = new Error("no longer wanted");
  await assert.rejects(async () => {
    for await (const item of client.stream("endless", undefined, { signal: controller.signal })) {
      if (item === 3) controller.abort(reason);
    }
  }, reason);
  await client.call("endless.closed");
  const hanging = new AbortController();
  const call = client.call("hang", undefined, { signal: hanging.signal });
  await client.call("hanging");
  hanging.abort();
  await assert.rejects(call, { name: "AbortError" });
  await client.call("hang.closed");
  await assert.rejects(client.call("double", 1, { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal(client.statistics().streams, 0);
});

export const uploads = using(async (client) => {
  assert.equal(await client.upload("sum", [1, 2, 3]), 6);
  assert.equal(await client.upload("sum", []), 0);
  let made = 0;
  async function* numbers(count) {
    for (let n = 0; n < count; n += 1) {
      made += 1;
      yield n;
    }
  }
  assert.equal(await client.upload("sum", numbers(10_000)), 49_995_000);
  assert.equal(await client.upload("sum", streamOf(numbers(100))), 4950);
  // The handler takes one item and then waits: the source is asked for no more than the window and what is under way.
  made = 0;
  const controller = new AbortController();
  const stalled = client.upload("stall", numbers(1_000_000), { signal: controller.signal });
  await client.call("stalled");
  let before = -1;
  while (before !== made) {
    before = made;
    for (let n = 0; n < 20; n += 1) await turn();
  }
  assert.ok(made >= 2 && made <= 260, `${made} items were made for a handler that takes one`);
  controller.abort();
  await assert.rejects(stalled, { name: "AbortError" });
  await client.call("stall.closed");
});

export const earlyAnswer = using(async (client) => {
  let isReturned = false;
  async function* once() {
    try {
      yield 7;
      await client.call("double", 1); // more would come, and then never
      await turn();
      for (;;) yield 8;
    } finally {
      isReturned = true;
    }
  }
  assert.equal(await client.upload("first", once()), 7);
  await until(() => isReturned);
  await assert.rejects(client.upload("sum", (async function* () { yield 1; throw new Error("the source broke"); })()), /the source broke/);
  await client.call("sum.closed");
  await assert.rejects(client.upload("refusing", once()), code("OUT_OF_STOCK"));
});

export const bidi = using(async (client) => {
  const stream = client.bidi("echo");
  await stream.send({ n: 1 });
  assert.deepEqual(await stream.next(), { value: { n: 1 }, done: false });
  const count = 5_000;
  const sending = (async () => {
    for (let n = 0; n < count; n += 1) await stream.send(n);
    await stream.end();
  })();
  let next = 0;
  for await (const item of stream) assert.equal(item, next++);
  await sending;
  assert.equal(next, count);
  const { itemsSent, itemsReceived, sendState, receiveState } = stream.statistics();
  assert.deepEqual([itemsSent, itemsReceived, sendState, receiveState], [5001, 5001, "closed", "closed"]);
  await assert.rejects(stream.send(1), /ended here/);
  // Leaving the loop lets go of both halves.
  const left = client.bidi("echo");
  await left.send(1);
  for await (const item of left) break;
  await client.call("echo.closed");
  // RESET cancels the handler; STOP of the answer alone does not end our half.
  const reset = client.bidi("echo");
  await reset.send(1);
  await reset.next();
  await reset.reset();
  await client.call("echo.closed");
  const piped = client.bidi("echo");
  const done = streamOf([1, 2, 3]).pipeTo(piped.writable);
  assert.deepEqual(await Array.fromAsync(piped.readable), [1, 2, 3]);
  await done;
});

export const refused = using(async (client) => {
  const stream = client.bidi("one.and.out");
  await stream.send(1);
  assert.deepEqual(await stream.next(), { value: 1, done: false });
  assert.equal((await stream.next()).done, true);
  await assert.rejects(async () => {
    for (;;) {
      await stream.send(2);
      await turn();
    }
  }, StreamStopped);
  // What still waits for credit when a stream is left was not sent, and the handler is not told that it was all.
  const stalled = client.bidi("stall");
  const sends = Promise.allSettled(Array.from({ length: 600 }, (_, n) => stalled.send(n)));
  await client.call("stalled");
  assert.ok(stalled.statistics().waitingSends > 80);
  await stalled.return();
  const outcomes = (await sends).map(({ status }) => status);
  assert.deepEqual([outcomes[0], outcomes.at(-1)], ["fulfilled", "rejected"]);
  await client.call("stall.closed");
});

export const many = using(async (client) => {
  const read = async (count) => {
    let next = 0;
    for await (const item of client.stream("count", count)) assert.equal(item, next++);
    return next;
  };
  const counts = Array.from({ length: 100 }, (_, n) => 500 + n);
  assert.deepEqual(await Promise.all(counts.map(read)), counts);
  assert.equal(client.statistics().streamsOpened, 100);
  assert.equal(client.statistics().streams, 0);
  assert.equal(client.statistics().unreadBytes, 0);
});

// The server allows four streams at once: the others wait for their turn, and one that is given up is never opened.
export const limited = using(async (client) => {
  const controller = new AbortController();
  const all = Array.from({ length: 40 }, (_, n) => client.call("double", n));
  const given = client.call("double", 1, { signal: controller.signal });
  assert.ok(client.statistics().streamsWaiting > 0);
  controller.abort();
  await assert.rejects(given, { name: "AbortError" });
  assert.deepEqual(await Promise.all(all), Array.from({ length: 40 }, (_, n) => 2 * n));
  assert.equal(client.statistics().streamsOpened, 40);
});

export const large = using(async (client) => {
  const size = 1_048_576;
  const text = "é".repeat(size / 2);
  assert.equal(await client.call("same", text), text);
  assert.equal((await client.call("big", size)).length, size);
  const chunks = Array.from({ length: 8 }, (_, n) => String(n).repeat(300_000));
  const stream = client.bidi("echo");
  const sending = (async () => {
    for (const chunk of chunks) await stream.send(chunk);
    await stream.end();
  })();
  const seen = [];
  for await (const item of stream) seen.push(item);
  await sending;
  assert.deepEqual(seen, chunks);
  await assert.rejects(client.call("length", "x".repeat(16_777_216)), (error) => error.field === "maxItemBytes");
});

export const raw = using(async (client) => {
  const result = await client.call("double", new TextEncoder().encode("21"), { raw: true });
  assert.ok(result instanceof Uint8Array);
  assert.equal(result.buffer.byteLength, 2); // no part of something larger
  assert.equal(new TextDecoder().decode(result), "42");
  // What is sent is a copy: its owner may go on to change it.
  const bytes = new TextEncoder().encode("1");
  const call = client.call("double", bytes, { raw: true });
  bytes[0] = 0;
  assert.equal(new TextDecoder().decode(await call), "2");
  const items = [];
  for await (const item of client.stream("count", 3, { raw: true })) items.push(...item);
  assert.deepEqual(items, [48, 49, 50]);
  // Exact where a double is not.
  assert.equal(new TextDecoder().decode(await client.call("huge", undefined, { raw: true })), String(2n ** 80n));
});

export const deadlines = using(async (client) => {
  const left = await client.call("time.left", undefined, { timeout: 30_000 });
  assert.ok(left > 1 && left <= 30, `${left} s`);
  assert.equal(await client.call("time.left"), null);
  await assert.rejects(client.call("hang", undefined, { timeout: 50 }), code("DEADLINE_EXCEEDED"));
  await client.call("hang.closed");
  await assert.rejects(async () => {
    for await (const item of client.stream("endless", undefined, { timeout: 50 })) void item;
  }, code("DEADLINE_EXCEEDED"));
  await client.call("endless.closed");
  assert.ok((await client.call("time.left", undefined, { timeout: 2 ** 40 })) > 2 ** 29);
});

export const goneAway = async (url) => {
  const client = await connect(url);
  const stream = client.stream("endless");
  assert.deepEqual(await stream.next(), { value: 0, done: false });
  await client.call("go.away");
  await until(() => !client.isOpen);
  await assert.rejects(client.call("double", 1), (error) => error instanceof ConnectionLost && /going away/.test(error.message));
  for (let n = 1; n < 1000; n += 1) assert.deepEqual(await stream.next(), { value: n, done: false });
  await stream.return();
  client.close();
};

export const killed = async (url, pid) => {
  const client = await connect(url);
  const waiting = client.call("hang");
  waiting.catch(() => {});
  let seen = 0;
  await assert.rejects(async () => {
    for await (const item of client.stream("endless")) {
      assert.equal(item, seen++);
      if (seen === 10) process.kill(pid, "SIGKILL");
    }
  }, ConnectionLost);
  assert.ok(seen >= 10);
  await assert.rejects(waiting, ConnectionLost);
  const lost = await client.closed;
  assert.ok(lost instanceof ConnectionLost && lost.message.includes(url), String(lost));
  await assert.rejects(client.call("double", 1), ConnectionLost);
  await assert.rejects(connect(url), ConnectionLost);
};

export const closing = async (url) => {
  const client = await connect(url);
  const call = client.call("hang");
  const stream = client.stream("endless");
  await stream.next();
  client.close();
  client.close();
  assert.equal(await client.closed, null);
  await assert.rejects(call, ConnectionLost);
  await assert.rejects(client.call("double", 1), ConnectionLost);
  await assert.rejects(connect(url, { signal: AbortSignal.abort() }), { name: "AbortError" });
  (await connect(url.replace("ws", "http"))).close();
  const controller = new AbortController();
  const connecting = connect(url, { signal: controller.signal });
  controller.abort();
  await assert.rejects(connecting, { name: "AbortError" });
  const other = new AbortController();
  const closed = await connect(url, { signal: other.signal });
  other.abort(new Error("enough"));
  assert.equal((await closed.closed).cause.message, "enough");
  await assert.rejects(connect(url, { windowItems: 0 }), (error) => error.field === "windowItems");
  await assert.rejects(connect(url, { WebSocket: null }), TypeError);
};

// Nothing is written while the WebSocket holds more than the mark; what is urgent still overtakes what waits.
export const buffered = async (url) => {
  let most = 0;
  class Slow extends WebSocket {
    #held = 0;
    get bufferedAmount() {
      return this.#held;
    }
    send(data) {
      super.send(data);
      this.#held += data.byteLength;
      most = Math.max(most, this.#held);
      setTimeout(() => (this.#held -= data.byteLength), 2);
    }
  }
  const client = await connect(url, { WebSocket: Slow, maxBufferedBytes: 100_000 });
  const items = Array.from({ length: 60 }, () => "x".repeat(50_000));
  assert.equal(await client.upload("lengths", items), 3_000_000);
  assert.ok(most > 60_000 && most < 200_000, `${most} bytes were buffered`);
  client.close();
};

// A figure for people; the claim is only that it ends.
export const speed = using(async (client, count) => {
  const rate = (started, done) => Math.round((done / (performance.now() - started)) * 1000);
  let started = performance.now();
  let seen = 0;
  for await (const item of client.stream("count", count)) seen += item >= 0;
  const items = rate(started, seen);
  started = performance.now();
  seen = 0;
  for await (const run of client.stream("count", count).runs()) seen += run.length;
  const inRuns = rate(started, seen);
  started = performance.now();
  await client.upload("sum", (function* () { for (let n = 0; n < count; n += 1) yield n; })());
  return { "items/s": items, "items/s in runs": inRuns, "items/s uploaded": rate(started, count) };
});
