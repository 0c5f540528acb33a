// Sessions by themselves: two machines and carriers that are cut wherever it hurts. No clock, no network.
import assert from "node:assert/strict";
import { test } from "node:test";
import { internals } from "../../../trio_streams/browser/client.js";

const { Machine, Retention, Session, encode, findCounted } = internals;
const item = (size) => new Uint8Array(size);
const MAX = 1_048_576;

/** What one side has to say, as bytes on their way: they may be cut anywhere. */
class Line {
  constructor(client = {}, server = {}) {
    this.client = new Session({ sessionId: "c", now: 0, maxRetainedBytes: client.maxRetainedBytes ?? MAX, limits: client.limits });
    const limits = { maxStreams: 100, ...server.limits };
    this.server = new Session({ sessionId: "s", now: 0, isClient: false, maxRetainedBytes: server.maxRetainedBytes ?? MAX, limits });
    this.seen = { client: [], server: [] };
    this.run();
  }

  /** One write each way, of which only the first bytes arrive. */
  step(upBytes = Infinity, downBytes = Infinity) {
    const [up, down] = [this.client, this.server].map((side) => (side.hasOutput ? side.toSend(4_096) : item(0)));
    if (up.length) this.server.receive(up.subarray(0, upBytes), 0);
    if (down.length) this.client.receive(down.subarray(0, downBytes), 0);
    this.seen.client.push(...this.client.takeEvents());
    this.seen.server.push(...this.server.takeEvents());
    return up.length + down.length > 0;
  }

  run() {
    while (this.step());
    assert.equal(this.client.failure ?? this.server.failure, null);
  }

  /** The carrier is lost in the middle of what is written now; another one comes. */
  cut(upBytes, downBytes) {
    this.step(upBytes, downBytes);
    for (const side of [this.client, this.server]) side.detach();
    for (const side of [this.client, this.server]) side.attach(0);
  }

  take(name) {
    this.run();
    return this.seen[name].splice(0);
  }
}

const types = (events) => events.map(({ type }) => type);
const counted = (events) => events.reduce((sum, { run }) => sum + (run?.count ?? 0), 0);

test("a hello on each carrier names the session and what is here", () => {
  const line = new Line();
  const { id } = line.client.open("x");
  line.client.send(id, [item(3)]);
  line.run();
  line.client.detach();
  line.server.detach();
  assert.equal(line.client.hasOutput, false);
  line.server.attach(0);
  const decoder = new internals.Decoder();
  const [hello] = decoder.decode(line.server.toSend(1_000));
  assert.deepEqual([hello.record.session_id, hello.record.frames_received, hello.record.features], ["s", 2, ["resume"]]);
});

test("a carrier that is cut at any byte costs no item and doubles none", () => {
  const probe = new Line();
  const { id } = probe.client.open("x");
  probe.client.send(id, Array(5).fill(item(20)));
  const size = probe.client.toSend(4_096).length;
  for (let at = 0; at <= size; at += 1) {
    const line = new Line();
    const stream = line.client.open("x");
    line.client.send(stream.id, Array(5).fill(item(20)));
    line.client.end(stream.id);
    line.cut(at, Infinity);
    const events = line.take("server");
    assert.equal(counted(events), 5, `cut at ${at}`);
    for (const type of ["opened", "resumed", "ended"]) assert.equal(types(events).filter((other) => other === type).length, 1, type);
    assert.equal(line.client.resumes, 1);
  }
});

test("random cuts in both directions lose, double and move nothing", () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    let state = seed;
    const dice = (sides) => (state = (state * 48_271) % 2_147_483_647) % sides;
    const limits = { windowItems: 1 + dice(30), windowBytes: 200 + dice(40_000) };
    const line = new Line({ limits }, { limits });
    const streams = Array.from({ length: 3 }, () => ({ id: line.client.open("x").id, sent: [0, 0], seen: [0, 0] }));
    line.run();
    const sides = [line.client, line.server];
    for (let round = 0; round < 300; round += 1) {
      const stream = streams[dice(3)];
      const side = dice(2);
      if (stream.sent[side] < 60) {
        const payload = item(1 + (dice(5) ? dice(200) : dice(30_000)));
        payload[0] = stream.sent[side];
        stream.sent[side] += sides[side].send(stream.id, [payload]);
      }
      if (dice(6) === 0) line.cut(dice(4_000), dice(4_000));
      else if (dice(2)) line.step();
      if (dice(3) === 0) line.run();
      for (const [side, name] of ["server", "client"].entries()) {
        for (const { id, run } of line.seen[name].splice(0)) {
          if (!run) continue;
          const target = streams.find((one) => one.id === id);
          for (let n = 0; n < run.count; n += 1) assert.equal(run.bytes(n)[0], target.seen[side]++);
          sides[1 - side].consume(id, run.count, run.cost);
        }
      }
      assert.equal(line.client.failure ?? line.server.failure, null);
    }
    for (let left = 1; left > 0; ) {
      left = 0;
      line.run();
      for (const [side, name] of ["server", "client"].entries()) {
        for (const { id, run } of line.seen[name].splice(0)) {
          if (!run) continue;
          left += 1;
          const target = streams.find((one) => one.id === id);
          for (let n = 0; n < run.count; n += 1) assert.equal(run.bytes(n)[0], target.seen[side]++);
          sides[1 - side].consume(id, run.count, run.cost);
        }
      }
    }
    for (const { sent, seen } of streams) assert.deepEqual(seen, sent, `seed ${seed}`);
    assert.ok(line.client.resumes > 10);
  }
});

test("what is received is acknowledged after 32 KiB or 256 frames, and what is acknowledged is let go", () => {
  const line = new Line({}, { limits: { windowItems: 10_000, windowBytes: 10_000_000 } });
  const { id } = line.client.open("x");
  line.run();
  line.client.send(id, [item(10_000)]);
  line.server.receive(line.client.toSend(65_536), 0);
  assert.equal(line.server.hasOutput, false);
  assert.ok(line.client.retainedBytes > 10_000);
  line.client.send(id, [item(10_000), item(14_000)]);
  while (line.client.hasOutput) line.server.receive(line.client.toSend(65_536), 0);
  assert.equal(line.server.hasOutput, true);
  line.client.receive(line.server.toSend(65_536), 0);
  assert.equal(line.client.retainedBytes, 0);
  for (let n = 0; n < 256; n += 1) {
    assert.equal(line.server.hasOutput, false, `after ${n} frames`);
    line.client.send(id, [item(1)]);
    line.server.receive(line.client.toSend(65_536), 0);
  }
  assert.equal(line.server.hasOutput, true);
});

test("an acknowledgement travels with what is written anyway", () => {
  const line = new Line();
  const { id } = line.client.open("x");
  line.client.send(id, [item(500)]);
  line.run();
  assert.ok(line.client.retainedBytes > 0);
  line.server.send(id, [item(1)]);
  line.run();
  assert.equal(line.client.retainedBytes, 0);
});

test("nothing more is taken from streams while the limit is retained; control goes on, and is bounded", () => {
  const line = new Line({ maxRetainedBytes: 2_000, limits: { maxSendBufferBytes: 4_000, maxControlBytes: 500 } }, { limits: { windowItems: 1_000 } });
  const { id } = line.client.open("x");
  line.run();
  line.client.send(id, Array(40).fill(item(100)));
  let written = 0;
  while (line.client.hasOutput) written += line.client.toSend(300).length;
  assert.ok(written > 1_500 && written < 3_000, String(written));
  assert.equal(line.client.send(id, Array(40).fill(item(100))) < 40, true); // senders wait
  for (let n = 0; n < 40; n += 1) {
    const { failure } = line.client;
    if (failure !== null) break;
    const stream = line.client.open("y");
    line.client.reset(stream.id);
    line.client.toSend(300);
  }
  assert.equal(line.client.failure.code, "RESOURCE_EXHAUSTED");
  assert.match(line.client.failure.message, /acknowledges nothing/);
});

test("pings and acknowledgements are neither counted nor repeated", () => {
  const frames = [encode.ping(1), encode.credit(1, 2, 3), encode.ack(4), encode.goAway("OK", "", 0), encode.pong(item(8))];
  const data = new Uint8Array(frames.flatMap((frame) => [...frame]));
  assert.deepEqual(findCounted(data).map(([start, end]) => end - start), [frames[1].length, frames[3].length]);
  const retention = new Retention(10_000);
  retention.keep(data);
  retention.keep(encode.ping(2));
  assert.equal(retention.retainedBytes, data.length + 64);
  const again = retention.replay(0);
  assert.deepEqual(again.map(({ length }) => length), [frames[1].length + frames[3].length]);
  assert.deepEqual(retention.replay(1).map(({ length }) => length), [frames[3].length]);
});

test("what can't be acknowledged or asked for is a fault that names the numbers", () => {
  const retention = new Retention(10_000);
  retention.keep(encode.run(1, [item(100)]));
  retention.keep(encode.run(1, [item(100)]));
  assert.throws(() => retention.acknowledge(3), (error) => error.field === "frames" && error.size === 3 && error.limit === 2);
  const other = new Retention(10_000);
  for (let n = 0; n < 3; n += 1) other.keep(encode.run(1, [item(100)]));
  other.acknowledge(2);
  assert.throws(() => other.replay(1), (error) => error.field === "frames_received" && error.limit === 2);
  other.acknowledge(1); // an older one changes nothing
  assert.equal(other.replay(2).length, 1);
});

test("a peer with another session id has lost this one", () => {
  const line = new Line();
  line.client.open("x");
  line.run();
  line.client.detach();
  const other = new Session({ sessionId: "another", now: 0, isClient: false, maxRetainedBytes: MAX });
  line.client.attach(0);
  line.client.receive(other.toSend(1_000), 0);
  assert.match(line.client.failure.message, /could not be resumed/);
  assert.equal(line.client.failure.code, "UNAVAILABLE");
});

test("a first hello that has received something is refused", () => {
  const fresh = new Session({ sessionId: "fresh", now: 0, isClient: false, maxRetainedBytes: MAX });
  const returning = new Session({ sessionId: "returning", now: 0, maxRetainedBytes: MAX });
  returning.framesReceived = 5;
  returning.detach();
  returning.attach(0);
  fresh.receive(returning.toSend(1_000), 0);
  assert.equal(fresh.failure.field, "frames_received");
});

test("a peer that offers no resume makes it a plain connection", () => {
  const client = new Session({ sessionId: "c", now: 0, maxRetainedBytes: MAX });
  const server = new Machine({ sessionId: "s", now: 0, isClient: false, limits: { maxStreams: 5 } });
  server.receive(client.toSend(1_000), 0);
  client.receive(server.toSend(1_000), 0);
  assert.equal(client.canOutlive, false);
  const { id } = client.open("x");
  client.send(id, [item(100)]);
  server.receive(client.toSend(1_000), 0);
  assert.equal(counted(server.takeEvents()), 1);
  assert.equal(client.retainedBytes, 0);
});

test("a silence is the carrier's fault while the session can outlive it", () => {
  const line = new Line({ limits: { idleTimeout: 1_000, handshakeTimeout: 300 } });
  line.client.handleDeadline(500);
  line.client.handleDeadline(1_000);
  const [event] = line.client.takeEvents();
  assert.deepEqual([event.type, event.error.code], ["carrier-failed", "IDLE_TIMEOUT"]);
  assert.equal(line.client.failure, null);
  line.client.detach();
  assert.equal(line.client.deadline, Infinity);
  line.client.attach(2_000);
  line.client.handleDeadline(2_300); // nobody greets
  assert.deepEqual(types(line.client.takeEvents()), ["carrier-failed"]);
});

test("between two carriers no stream is opened, and what was ended meanwhile is told on the next", () => {
  const line = new Line();
  const stream = line.client.open("x");
  line.run();
  line.take("server");
  line.client.detach();
  line.server.detach();
  assert.equal(line.client.canOpen, false);
  line.client.noteWishToOpen();
  line.client.reset(stream.id, "ABORTED", "meanwhile");
  line.client.attach(0);
  line.server.attach(0);
  assert.deepEqual(types(line.take("server")), ["resumed", "reset"]);
  assert.deepEqual(types(line.take("client")).slice(-2), ["resumed", "streams-allowed"]);
});

test("a session that said goodbye is not gone on with", () => {
  const line = new Line();
  line.server.goAway("OK", "done");
  line.run();
  assert.equal(line.client.canOutlive, false);
});
