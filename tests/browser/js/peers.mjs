// What two peers say to each other, one of them in JavaScript. Each function connects, claims, and leaves nothing behind.
import assert from "node:assert/strict";
import { CodecError, ConnectionLost, LocalProtocolError, RpcError, openPeer } from "../../../trio_streams/browser/client.js";

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const numbers = (count) => Array.from({ length: count }, (_, n) => n);
const all = async (stream) => {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
};

/** Connect for as long as the function. */
const using = (use, options) => async (url, ...rest) => {
  const peer = await openPeer(`${url}peers`, options);
  const call = async (method, params) => (await peer.request({ method, params })).data;
  try {
    await use(peer, call, ...rest);
    assert.equal(peer.statistics().unreadBytes, 0);
  } finally {
    peer.close();
    assert.equal(await peer.closed, null);
  }
};

export const calls = using(async (peer, call) => {
  assert.equal(await call("add", { a: 2, b: 3 }), 5);
  assert.equal(await call("add", [2, 3]), 5);
  assert.deepEqual((await peer.request({ any: ["thing", null] })).data, { any: ["thing", null] });
  await assert.rejects(call("refuse"), (error) => {
    assert.deepEqual([error.name, error.code, error.message, error.details], ["RpcError", "OUT_OF_STOCK", "none left", { left: 0 }]);
    return true;
  });
  await assert.rejects(call("add", { a: "x", b: 1 }), (error) => error.code === "INVALID_ARGUMENT");
  await assert.rejects(peer.request(NaN), CodecError);
  await assert.rejects(peer.request(undefined), CodecError);
  const controller = new AbortController();
  const hanging = peer.request({ method: "hang" }, { signal: controller.signal });
  await call("wait", { what: "hanging" });
  controller.abort();
  await assert.rejects(hanging, { name: "AbortError" });
  await call("wait", { what: "hung up" }); // the handler was cancelled
  await assert.rejects(peer.request({ method: "hang" }, { timeout: 50 }), (error) => error.code === "DEADLINE_EXCEEDED");
  await peer.send({ method: "tell", params: { text: "hello" } });
  assert.deepEqual(await call("told"), ["hello"]);
  assert.deepEqual(await Promise.all(numbers(100).map((n) => call("add", { a: n, b: 1 }))), numbers(100).map((n) => n + 1));
});

export const answers = using(async (peer, call) => {
  const told = [];
  const signals = [];
  peer.method("square", ({ n }) => n * n);
  peer.method("refuse", async () => {
    throw new RpcError("OUT_OF_STOCK", "none here", [1]);
  });
  peer.method("wrong", () => NaN);
  peer.method("nothing", () => {});
  peer.method("hang", (params, { signal }) => new Promise((resolve, reject) => {
    signals.push(signal);
    call("happen", { what: "here" });
    signal.addEventListener("abort", () => reject(signal.reason));
  }));
  peer.method("say", ({ text }) => void told.push(text));
  assert.deepEqual(await call("call.back", { data: { method: "square", params: { n: 7 } } }), { data: 49 });
  assert.deepEqual(await call("call.back", { data: { method: "nothing" } }), { data: null });
  assert.deepEqual(await call("call.back", { data: { method: "refuse" } }), { code: "OUT_OF_STOCK", message: "none here", details: [1] });
  assert.equal((await call("call.back", { data: { method: "wrong" } })).code, "INVALID_ARGUMENT");
  assert.equal((await call("call.back", { data: { method: "unheard of" } })).code, "UNIMPLEMENTED");
  assert.equal((await call("call.back", { data: 5 })).code, "UNIMPLEMENTED");
  peer.match((data) => ({ echoed: data }));
  assert.deepEqual(await call("call.back", { data: [1, { method: 2 }] }), { data: { echoed: [1, { method: 2 }] } });
  assert.equal(await call("call.until", { data: { method: "hang" }, what: "here" }), "gave up");
  for (let n = 0; n < 1_000 && !signals[0].aborted; n += 1) await sleep(5);
  assert.equal(signals[0].aborted, true);
  await call("tell.back", { data: { method: "say", params: { text: "psst" } } });
  for (let n = 0; n < 1_000 && told.length === 0; n += 1) await sleep(5);
  assert.deepEqual(told, ["psst"]);
  assert.throws(() => peer.method("square", () => 1), TypeError);
  assert.match(await call("open", { name: "something.else" }), /UNIMPLEMENTED/);
});

export const receives = using(async (peer, call) => {
  const { streamId } = await call("numbers", { count: 1_000 });
  const [id, stream] = peer.receiveStream(streamId);
  assert.equal(id, streamId);
  assert.deepEqual(await all(stream), numbers(1_000));
  // In any order: asked for before it begins, after, and without an id.
  const [, before] = peer.receiveStream("before");
  const sent = call("send", { form: "plain", count: 300, stream_id: "before" });
  assert.deepEqual(await all(before), numbers(300));
  assert.equal(await sent, null);
  const [unknown, next] = peer.receiveStream();
  assert.equal(unknown, null);
  const sending = call("send", { form: "plain", count: 3, stream_id: "whichever" });
  assert.equal(await next.begun, "whichever");
  assert.equal(next.id, "whichever");
  assert.deepEqual(await all(next.readable), [0, 1, 2]);
  await sending;
  assert.throws(() => (peer.receiveStream("twice"), peer.receiveStream("twice")), (error) => error.code === "ALREADY_EXISTS");
  peer.closeReceivingStream("twice");
  const failing = await call("failing", { count: 3 });
  const seen = [];
  await assert.rejects(async () => {
    for await (const item of peer.receiveStream(failing.streamId)[1]) seen.push(item);
  }, (error) => error.code === "OUT_OF_STOCK");
  assert.deepEqual(seen, [0, 1, 2]);
  // Leaving the loop tells the sender to stop.
  const [, left] = peer.receiveStream("left");
  const stopped = call("send", { form: "plain", count: 1_000_000, stream_id: "left" });
  for await (const item of left) if (item === 10) break;
  assert.equal(await stopped, null);
  const [, closed] = peer.receiveStream("closed");
  const stoppedToo = call("send", { form: "plain", count: 1_000_000, stream_id: "closed" });
  await closed.next();
  peer.closeReceivingStream("closed");
  assert.equal(await stoppedToo, null);
  assert.equal((await closed.next()).done, true);
  peer.closeReceivingStream("closed"); // too late is no fault
  assert.throws(() => peer.closeReceivingStream("never was"), (error) => error.code === "NOT_FOUND");
  assert.throws(() => peer.receiveStream("x".repeat(257)), LocalProtocolError);
});

export const forms = using(async (peer, call) => {
  const sending = call("send", { form: "batched", count: 100, stream_id: "lines" });
  assert.deepEqual(await all(peer.receiveStream("lines")[1]), numbers(100));
  assert.equal(await sending, null);
  const batches = call("send", { form: "batched", count: 100, stream_id: "runs" });
  const runs = [];
  for await (const run of peer.receiveStream("runs")[1].runs()) runs.push(...run);
  assert.deepEqual(runs, numbers(100));
  await batches;
  const raw = call("send", { form: "bytes", count: 12, stream_id: "raw" });
  const items = await all(peer.receiveStream("raw")[1]);
  assert.deepEqual(items.map((item) => new TextDecoder().decode(item)), numbers(12).map(String));
  await raw;
  const refused = call("send", { form: "deflated", count: 5_000, stream_id: "deflated" });
  const [, deflated] = peer.receiveStream("deflated");
  await assert.rejects(deflated.next(), (error) => error.code === "UNIMPLEMENTED" && /content-encoding "deflate" can't be decoded/.test(error.message));
  assert.match(await refused, /UNIMPLEMENTED.*content-encoding/);
  // One after the other, though the second is read first.
  const order = [];
  await call("send", { form: "plain", count: 50, stream_id: "first" }); // it waits here for its reader
  const second = call("send", { form: "plain", count: 3, stream_id: "second", after: "first" });
  const read = async (id) => {
    for await (const item of peer.receiveStream(id)[1]) order.push(`${id} ${item}`);
  };
  await Promise.all([read("second"), sleep(20).then(() => read("first")), second]);
  assert.equal(order.length, 53);
  assert.deepEqual(order.slice(50), ["second 0", "second 1", "second 2"]);
});

export const sends = using(async (peer, call) => {
  const taken = call("take", { stream_id: "ours" });
  assert.equal(await peer.sendStream(numbers(500), "ours"), "ours");
  assert.deepEqual(await taken, { items: numbers(500), error: null });
  const id = await peer.sendStream((async function* () { yield* ["a", { b: 1 }]; })());
  assert.deepEqual(await call("take", { stream_id: id }), { items: ["a", { b: 1 }], error: null });
  const raw = peer.sendStream([new TextEncoder().encode("bytes")], "raw", { raw: true });
  assert.deepEqual(await call("take", { stream_id: "raw" }), { items: ["bytes"], error: null });
  await raw;
  // The receiver wants no more: sending ends well, and the source is closed.
  let isClosed = false;
  async function* endless() {
    try {
      for (let n = 0; ; n += 1) {
        yield n;
        if (n % 100 === 0) await sleep(0);
      }
    } finally {
      isClosed = true;
    }
  }
  const left = peer.sendStream(endless(), "left");
  assert.deepEqual(await call("take", { stream_id: "left", most: 3 }), { items: [0, 1, 2], error: null });
  await left;
  for (let n = 0; n < 1_000 && !isClosed; n += 1) await sleep(5);
  assert.equal(isClosed, true);
  // A source that breaks, and a stream that is aborted.
  const broken = peer.sendStream((function* () { yield 1; throw new RpcError("DATA_LOSS", "gone"); })(), "broken");
  const outcomes = await Promise.allSettled([broken, call("take", { stream_id: "broken" })]);
  assert.equal(outcomes[0].reason.code, "DATA_LOSS");
  assert.deepEqual(outcomes[1].value.items, [1]);
  assert.match(outcomes[1].value.error, /gone/);
  const aborted = peer.sendStream(endless(), "aborted");
  const seen = call("take", { stream_id: "aborted" });
  await sleep(20);
  peer.abortStream("aborted");
  assert.equal(await aborted, "aborted");
  assert.match((await seen).error, /StreamReset/);
  peer.abortStream("aborted"); // too late is no fault
  assert.throws(() => peer.abortStream("never was"), (error) => error.code === "NOT_FOUND");
  const controller = new AbortController();
  const cancelled = peer.sendStream(endless(), "cancelled", { signal: controller.signal });
  const cut = call("take", { stream_id: "cancelled" });
  await sleep(20);
  await assert.rejects(peer.sendStream([], "cancelled"), (error) => error.code === "ALREADY_EXISTS");
  controller.abort();
  await assert.rejects(cancelled, { name: "AbortError" });
  assert.match((await cut).error, /StreamReset/);
  await assert.rejects(peer.sendStream([1n], "unsayable"), CodecError);
  await assert.rejects(peer.sendStream(5), TypeError);
  // A method that answers with a stream.
  peer.method("letters", async function* ({ count }) {
    for (let n = 0; n < count; n += 1) yield String.fromCharCode(97 + n);
  });
  peer.method("list", () => [1, 2]);
  assert.deepEqual(await call("read.back", { data: { method: "letters", params: { count: 5 } } }), ["a", "b", "c", "d", "e"]);
  assert.deepEqual(await call("call.back", { data: { method: "list" } }), { data: [1, 2] });
  await call("take", { stream_id: "unsayable" });
});

export const unclaimed = using(
  async (peer, call) => {
    // Too many of them, too much in them, too late: refused, and whoever asks for them hears why.
    await Promise.all(numbers(5).map((n) => call("send", { form: "plain", count: 1, stream_id: `many ${n}` })));
    const many = await Promise.allSettled(numbers(5).map((n) => all(peer.receiveStream(`many ${n}`)[1])));
    const refused = many.filter(({ status }) => status === "rejected");
    assert.equal(refused.length, 2);
    for (const { reason } of refused) assert.match(reason.message, /passes maxUnclaimedStreams of 3/);
    const large = await call("send", { form: "plain", count: 5_000, stream_id: "large" });
    assert.match(large, /RESOURCE_EXHAUSTED.*maxBufferedStreamBytes of 10000/);
    await assert.rejects(peer.receiveStream("large")[1].next(), (error) => error.code === "RESOURCE_EXHAUSTED" && error.details.limit === 10_000);
    assert.match(await call("open", { name: "peer.stream" }), /INVALID_ARGUMENT/);
    await call("send", { form: "plain", count: 1, stream_id: "late" });
    await sleep(1_500);
    await assert.rejects(peer.receiveStream("late")[1].next(), (error) => error.code === "DEADLINE_EXCEEDED");
  },
  { maxBufferedStreamBytes: 10_000, maxUnclaimedStreams: 3, unclaimedTimeout: 1_000 },
);

/** When the connection is lost everything says "Connection closed", once. */
export async function lost(url, pages) {
  const peer = await openPeer(`${url}peers`);
  const [, begun] = peer.receiveStream("begun");
  const [, never] = peer.receiveStream("never");
  const [, nameless] = peer.receiveStream();
  const sending = peer.request({ method: "send", params: { form: "plain", count: 1_000_000, stream_id: "begun" } });
  assert.equal((await begun.next()).value, 0);
  const ours = peer.sendStream((async function* () { for (;;) { yield 1; await sleep(1); } })(), "ours");
  const waiting = [sending, ours, never.next(), nameless.begun, peer.request({ method: "hang" })];
  const isLost = (error) => error instanceof ConnectionLost && /^Connection closed: /.test(error.message);
  const ended = Promise.all([...waiting, all(begun)].map((promise) => assert.rejects(promise, isLost)));
  await fetch(`${pages}/cut/0`, { method: "POST" });
  await ended;
  assert.ok((await peer.closed) instanceof ConnectionLost);
  await assert.rejects(peer.send(1), isLost);
  await assert.rejects(peer.sendStream([1]), isLost);
  await assert.rejects(peer.receiveStream("another")[1].next(), isLost);
  assert.equal(peer.statistics().isOpen, false);
}

/** Calls and streams of both directions go on where they were, each item once and in order. */
export async function goesOn(url, pages, milliseconds) {
  const peer = await openPeer(`${url}peers`, { resume: true, reconnect: { initialDelay: 100, maxDelay: 300 } });
  const changes = [];
  peer.onstatechange = ({ state }) => changes.push(state);
  peer.method("slow", async ({ n }) => {
    await sleep(milliseconds * 2);
    return n * 2;
  });
  const isBack = () => peer.statistics().resumes === 1 && peer.state === "attached";
  let sent = 0;
  async function* counting() {
    for (let after = 0; after < 2_000; sent += 1) {
      if (isBack()) after += 1;
      yield sent;
      if (sent % 100 === 0) await sleep(1);
    }
  }
  const counted = peer.request({ method: "count", params: { stream_id: "up" } });
  const up = peer.sendStream(counting(), "up");
  const back = peer.request({ method: "call.back", params: { data: { method: "slow", params: { n: 21 } } } });
  const down = peer.request({ method: "send", params: { form: "plain", count: 60_000, stream_id: "down" } });
  let next = 0;
  for await (const item of peer.receiveStream("down")[1]) {
    assert.equal(item, next++);
    if (next === 20_000) await fetch(`${pages}/cut/${milliseconds}`, { method: "POST" });
  }
  assert.equal(next, 60_000);
  await up;
  assert.deepEqual((await counted).data, [sent, 0]);
  assert.deepEqual((await back).data, { data: 42 });
  assert.equal((await down).data, null);
  assert.deepEqual(changes, ["detached", "attached"]);
  peer.close();
  return { sent };
}
