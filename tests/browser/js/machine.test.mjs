// The machine by itself: two of them, or one and frames made by hand. No carrier, no clock.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_LIMITS, LocalProtocolError, internals } from "../../../trio_streams/browser/client.js";

const { Machine } = internals;
const bytes = (text) => new TextEncoder().encode(text);
const item = (size) => new Uint8Array(size);

class Pair {
  constructor(client = {}, server = {}) {
    const limits = { maxStreams: 100, ...server };
    this.client = new Machine({ sessionId: "c", now: 0, limits: client });
    this.server = new Machine({ sessionId: "s", now: 0, isClient: false, limits });
    this.seen = { client: [], server: [] };
    this.run();
  }

  /** Until nobody has anything to say. */
  run(maxBytes = 65_536) {
    while (this.step(this.client, this.server, "server", maxBytes) || this.step(this.server, this.client, "client", maxBytes));
  }

  step(from, to, name, maxBytes) {
    const data = from.toSend(maxBytes);
    if (data.length) to.receive(data, 0);
    this.seen.client.push(...this.client.takeEvents());
    this.seen.server.push(...this.server.takeEvents());
    return data.length > 0;
  }

  take(name) {
    this.run();
    return this.seen[name].splice(0);
  }

  open(options) {
    const stream = this.client.open("x", options);
    this.run();
    return stream;
  }
}

const count = (events) => events.reduce((sum, { run }) => sum + (run?.count ?? 0), 0);
const types = (events) => events.map(({ type }) => type);

test("an item costs its length and 64; the one that crosses the byte limit passes", () => {
  const pair = new Pair({}, { windowItems: 100, windowBytes: 1_000 });
  const { id } = pair.open();
  assert.equal(pair.client.send(id, [item(36), item(5_000), item(1)]), 2);
  assert.equal(pair.client.get(id).sendCredit.bytes, 5_164);
  assert.equal(count(pair.take("server")), 2);
});

test("credit moves by consumption, a quarter of a window at a time", () => {
  const pair = new Pair({}, { windowItems: 8, windowBytes: 100_000 });
  const { id } = pair.open();
  assert.equal(pair.client.send(id, Array(9).fill(item(1))), 8);
  const events = pair.take("server");
  assert.equal(count(events), 8);
  assert.deepEqual(types(pair.take("client")), ["greeted"]);
  pair.server.consume(id, 1, 65);
  assert.deepEqual(pair.take("client"), []); // an eighth: no grant yet
  pair.server.consume(id, 1, 65);
  assert.deepEqual(types(pair.take("client")), ["writable"]);
  assert.equal(pair.client.get(id).sendCredit.itemLimit, 10);
});

test("a stream that nobody reads does not stop the others", () => {
  const pair = new Pair({}, { connectionBytes: 10_000, windowBytes: 8_000, windowItems: 1_000 });
  const unread = pair.open();
  const { id } = pair.open();
  pair.client.send(unread.id, Array(120).fill(item(1)));
  pair.run();
  let received = 0;
  for (let n = 0; n < 200; n += 1) {
    pair.client.send(id, [item(100)]);
    for (const event of pair.take("server")) {
      if (event.id !== id || !event.run) continue;
      received += event.run.count;
      pair.server.consume(id, event.run.count, event.run.cost);
    }
  }
  assert.equal(received, 200);
});

test("the send buffer makes senders wait, but never one that has nothing queued", () => {
  const pair = new Pair({ maxSendBufferBytes: 1_000 });
  const [a, b] = [pair.open(), pair.open()];
  pair.take("client");
  assert.equal(pair.client.send(a.id, Array(20).fill(item(100))), 7);
  assert.equal(pair.client.send(b.id, [item(100), item(100)]), 1);
  assert.deepEqual(types(pair.take("client")).sort(), ["writable", "writable"]);
});

test("large items are cut, and what is more urgent goes between the pieces", () => {
  const pair = new Pair();
  const low = pair.open({ priority: 0 });
  const high = pair.open({ priority: 5 });
  pair.client.send(low.id, [item(100_000)]);
  pair.client.toSend(0);
  const first = pair.client.toSend(16_384);
  assert.ok(first.length < 17_000);
  pair.client.send(high.id, [bytes("now")]);
  pair.server.receive(first, 0);
  const next = pair.client.toSend(1);
  assert.equal(next[11], high.id);
  pair.server.receive(next, 0);
  const sizes = pair.take("server").flatMap(({ run }) => (run ? [run.data.length] : []));
  assert.deepEqual(sizes, [3, 100_000]);
});

test("streams of one priority get equal bytes, lower ones a turn in sixteen", () => {
  const pair = new Pair({ maxSendBufferBytes: 1e9 }, { windowBytes: 1e9, connectionBytes: 1e9, windowItems: 1e6 });
  const streams = [0, 0, -1].map((priority) => pair.open({ priority }));
  streams.forEach(({ id }, index) => pair.client.send(id, Array(4_000).fill(item(index === 0 ? 1_000 : 250))));
  const sent = [0, 0, 0];
  for (let n = 0; n < 96; n += 1) {
    const data = pair.client.toSend(1);
    sent[(data[11] - 1) / 2] += data.length;
  }
  assert.ok(Math.abs(sent[0] - sent[1]) < 2 * 16_384, String(sent));
  assert.ok(sent[2] > 4 * 16_000 && sent[2] < 8 * 16_400, String(sent));
});

test("STOP is answered with RESET; what was queued is dropped", () => {
  const pair = new Pair();
  const { id } = pair.open();
  pair.server.stop(id, "OK", "enough");
  pair.client.send(id, Array(10).fill(item(10)));
  const events = pair.take("client");
  assert.deepEqual(types(events), ["greeted", "stopped"]);
  assert.equal(pair.client.queuedBytes, 0);
  assert.throws(() => pair.client.send(id, [item(1)]), LocalProtocolError);
  assert.equal(pair.server.unreadBytes, 0);
});

test("data for a stream that is gone is given back to the connection", () => {
  const pair = new Pair({ connectionBytes: 4_000 }, {});
  for (let n = 0; n < 50; n += 1) {
    const { id } = pair.open();
    pair.server.send(id, Array(5).fill(item(100)));
    pair.client.release(id); // crosses the items
    pair.run();
    pair.server.release(id);
    pair.run();
  }
  assert.equal(pair.client.failure, null);
  assert.equal(pair.client.unreadBytes, 0);
  assert.equal(pair.client.streamCount + pair.server.streamCount, 0);
});

test("streams are counted and granted anew when they are over", () => {
  const pair = new Pair({}, { maxStreams: 2 });
  const a = pair.open();
  pair.open();
  assert.throws(() => pair.client.open("x"), (error) => error.field === "maxStreams" && error.limit === 2);
  pair.client.noteWishToOpen();
  pair.client.release(a.id);
  pair.run();
  pair.server.release(a.id);
  assert.ok(types(pair.take("client")).includes("streams-allowed"));
  pair.open();
});

test("a silence is probed, and only an unanswered probe ends the connection", () => {
  const pair = new Pair();
  const half = DEFAULT_LIMITS.idleTimeout / 2;
  assert.equal(pair.client.deadline, half);
  pair.client.handleDeadline(10 * half); // a page that was asleep
  assert.equal(pair.client.failure, null);
  pair.server.receive(pair.client.toSend(1), 0);
  pair.client.receive(pair.server.toSend(1), 10 * half + 5);
  assert.equal(pair.client.roundTrip, 5);
  pair.client.handleDeadline(11 * half + 5);
  assert.equal(pair.client.failure, null);
  pair.client.handleDeadline(12 * half + 5);
  pair.client.handleDeadline(13 * half + 5);
  assert.equal(pair.client.failure.code, "IDLE_TIMEOUT");
  assert.equal(pair.client.deadline, Infinity);
});

test("limits are checked where they are given", () => {
  for (const [name, value] of [["windowItems", 0], ["windowBytes", 1.5], ["maxItemBytes", 2 ** 32], ["idleTimeout", NaN]]) {
    const make = () => new Machine({ sessionId: "x", now: 0, limits: { [name]: value } });
    assert.throws(make, (error) => error instanceof LocalProtocolError && error.field === name);
  }
});

test("random traffic in small windows arrives whole and in order", () => {
  for (let seed = 1; seed <= 30; seed += 1) {
    let state = seed;
    const dice = (sides) => (state = (state * 48_271) % 2_147_483_647) % sides;
    const limits = { windowItems: 1 + dice(20), windowBytes: 1 + dice(3_000), connectionBytes: 2_000 + dice(5_000), maxSendBufferBytes: 1 + dice(5_000) };
    const pair = new Pair(limits, limits);
    const streams = Array.from({ length: 5 }, () => ({ id: pair.open({ priority: dice(3) }).id, sent: 0, seen: 0 }));
    for (let round = 0; round < 400; round += 1) {
      const stream = streams[dice(5)];
      if (stream.sent < 30) {
        const size = dice(4) ? dice(200) : dice(40_000);
        const payload = item(size + 2);
        payload[0] = stream.sent;
        stream.sent += pair.client.send(stream.id, [payload]);
      }
      for (const event of pair.take("server")) {
        const target = streams.find(({ id }) => id === event.id);
        for (let n = 0; n < (event.run?.count ?? 0); n += 1) assert.equal(event.run.bytes(n)[0], target.seen++);
        if (event.run) pair.server.consume(event.id, event.run.count, event.run.cost);
      }
      assert.equal(pair.client.failure ?? pair.server.failure, null);
    }
    assert.deepEqual(streams.map(({ seen }) => seen), streams.map(({ sent }) => sent));
    assert.ok(streams.every(({ sent }) => sent > 0), JSON.stringify([limits, streams]));
    assert.equal(pair.server.unreadBytes, 0);
  }
});
