// The wire and the machine of the client, for comparison with those of the server.
import assert from "node:assert/strict";
import { LocalProtocolError, internals } from "../../../trio_streams/browser/client.js";

const { Decoder, Machine, Run, encode } = internals;
const fromHex = (hex) => new Uint8Array(Buffer.from(hex, "hex"));
const toHex = (bytes) => Buffer.from(bytes).toString("hex");
const PREFACE = new TextEncoder().encode("trio-streams.v1\n");

function decode(bytes, cuts = []) {
  const decoder = new Decoder();
  const whole = new Uint8Array([...PREFACE, ...bytes]);
  const bounds = [0, ...cuts, whole.length];
  return bounds.slice(1).flatMap((end, index) => decoder.decode(whole.slice(bounds[index], end)));
}

const itemsOf = (run) => Array.from({ length: run.count }, (_, index) => run.bytes(index));

const ENCODERS = {
  1: ({ record }) => encode.hello(record),
  2: ({ id, record: { name, timeout_ms, window_items, window_bytes, ...rest } }) =>
    encode.open(id, name, { ...rest, timeoutMs: timeout_ms, windowItems: window_items, windowBytes: window_bytes }),
  3: ({ id, record }) => encode.header(id, record),
  4: ({ id, run, data, total }) => (run ? encode.run(id, itemsOf(run)) : total === undefined ? encode.piece(id, data) : encode.first(id, data, total)),
  5: ({ id, record: { trailers, ...status } }) => encode.end(id, status, trailers),
  6: ({ id, code, reason }) => encode.reset(id, code, reason),
  7: ({ id, code, reason }) => encode.stop(id, code, reason),
  8: ({ id, count, bytes }) => encode.credit(id, count, bytes),
  9: ({ data }) => encode.ping(Number(new DataView(data.buffer).getBigUint64(0))),
  10: ({ count }) => encode.pong(fromHex(count.toString(16).padStart(16, "0"))),
  11: ({ count }) => encode.ack(count),
  12: ({ code, reason, count }) => encode.goAway(code, reason, count),
};

/** Frames that were decoded and encoded again. */
export function again(frames) {
  return frames.map((hex) => {
    const [frame, ...rest] = decode(fromHex(hex));
    assert.equal(rest.length, 0);
    if (frame.error) throw frame.error;
    return toHex(ENCODERS[frame.kind](frame));
  });
}

/** What is wrong with each of some frames, whole and byte by byte. */
export function faults(frames) {
  return frames.map((hex) => {
    const bytes = fromHex(hex);
    const cuts = Array.from({ length: PREFACE.length + bytes.length }, (_, index) => index);
    const found = [decode(bytes), decode(bytes, cuts)].map((decoded) => decoded.at(-1)?.error);
    assert.equal(found[0]?.message, found[1]?.message);
    return found[0] === undefined ? null : [found[0].name, found[0].code, found[0].field, found[0].message];
  });
}

/** mulberry32: the same numbers in every run. */
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** What a machine makes of a recorded session, cut at random: the same however it was cut. */
export function replay(hex, streams, seeds) {
  const bytes = fromHex(hex);
  const outcomes = new Set();
  for (let seed = 0; seed < seeds; seed += 1) outcomes.add(JSON.stringify(replayOnce(bytes, streams, random(seed), seed)));
  assert.equal(outcomes.size, 1, [...outcomes].slice(0, 2).join("\n"));
  return JSON.parse([...outcomes][0]);
}

function replayOnce(bytes, streams, next, seed) {
  const machine = new Machine({ sessionId: "s", now: 0 });
  const most = seed % 3 === 0 ? 5 : seed % 3 === 1 ? 200 : 40_000;
  const outcome = {};
  let isOpened = false;
  for (let at = 0; at < bytes.length; ) {
    // HELLO has to be there before streams can be opened, and what follows speaks of them.
    const size = Math.min(1 + Math.floor(next() * most), isOpened ? Infinity : 1);
    machine.receive(bytes.slice(at, at + size), 0);
    at += size;
    if (!isOpened && machine.hello !== null) {
      isOpened = true;
      for (let n = 0; n < streams; n += 1) machine.open("x");
    }
    for (const { type, id, run, record, code, reason, error } of machine.takeEvents()) {
      const log = (outcome[id] ??= { items: [], rest: [] });
      if (run) {
        log.items.push(...itemsOf(run).map(toHex));
        machine.consume(id, run.count, run.cost);
      } else log.rest.push([type, record ?? null, code ?? null, reason ?? null, error?.message ?? null]);
    }
  }
  return { ...outcome, frames: machine.framesReceived, failure: machine.failure?.message ?? null, unread: machine.unreadBytes };
}

/** What a user may hand to the encoder, and the server would take for a fault: refused here. */
export function refusals() {
  const tries = [
    () => encode.open(1, "\udc00"),
    () => encode.open(1, "x", { metadata: { "\ud800": "a" } }),
    () => encode.open(1, "x", { metadata: { a: 1 } }),
    () => encode.open(1, "x", { timeoutMs: NaN }),
    () => encode.end(1, { code: "X", details: [1, Infinity] }),
    () => encode.header(1, { a: null }),
    () => encode.header(1, { a: "x".repeat(16_384) }),
    () => encode.piece(1, new Uint8Array(16_385)),
  ];
  for (const attempt of tries) assert.throws(attempt, LocalProtocolError, String(attempt));
  // A reason is cut between characters.
  assert.equal(encode.reset(1, "UNKNOWN", "€".repeat(2000)).length, 12 + 4 + 1023);
  assert.equal(new Run(new Uint8Array([49, 44, 50]), [0, 3]).count, 1);
}
