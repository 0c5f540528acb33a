// What a page asks of a server whose paths do as tests/interop/webtransport/behaviours.py says. Each function connects by
// the hash of the server's certificate, judges both sides, and leaves nothing behind.
import assert from "node:assert/strict";

const MEBIBYTE = 1_048_576;
const HELLO = "from the server";
const FAULT_CODE = 0xfffffff0;
const CLOSE = { closeCode: 4_000_000_001, reason: "bis bald ✓" };
const CODES = [0, 1, 0x1d, 0x1e, 0x1f, 0x3b, 0x3c, 0xff]; // around the gaps of the mapping; a page of Chromium has 8 bits
const MAX_UNREAD_BYTES = 64 * MEBIBYTE; // more than any window, less than a sender makes that nothing stops

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function connect(url, hash, options) {
  const value = Uint8Array.from(atob(hash), (character) => character.charCodeAt(0));
  return new WebTransport(url, { serverCertificateHashes: [{ algorithm: "sha-256", value }], ...options });
}

/** Be in a session of a path for as long as a function runs. */
async function using(url, hash, path, use, options) {
  const transport = connect(url + path, hash, options);
  await transport.ready;
  try {
    return await use(transport);
  } finally {
    transport.close();
    await transport.closed;
  }
}

/** Bytes of which no two pieces are alike. */
function bytes(size, seed = 1) {
  const made = new Uint32Array(Math.ceil(size / 4));
  let state = seed;
  for (let i = 0; i < made.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    made[i] = state;
  }
  return new Uint8Array(made.buffer, 0, size);
}

async function readAll(readable) {
  return new Uint8Array(await new Response(readable).arrayBuffer());
}

async function writeAll(writable, data) {
  const writer = writable.getWriter();
  for (let start = 0; start < data.length; start += 32_768) await writer.write(data.subarray(start, start + 32_768));
  await writer.close();
}

function same(received, sent) {
  assert.equal(received.length, sent.length);
  assert.ok(received.every((byte, i) => byte === sent[i]), "other bytes came back");
}

async function next(incoming) {
  const reader = incoming.getReader();
  const { value, done } = await reader.read();
  reader.releaseLock();
  assert.ok(!done, "the session has ended");
  return value;
}

const told = async (transport) => decoder.decode(await readAll(await next(transport.incomingUnidirectionalStreams)));

async function echo(transport, data) {
  const stream = await transport.createBidirectionalStream();
  const [received] = await Promise.all([readAll(stream.readable), writeAll(stream.writable, data)]);
  same(received, data);
}

/** The error that a promise is rejected with, which is of a stream and has the server's code. */
async function faulted(promise) {
  let error;
  try {
    await promise;
  } catch (exc) {
    error = exc;
  }
  assert.ok(error instanceof WebTransportError, `no error of WebTransport: ${error}`);
  assert.equal(error.source, "stream");
  assert.equal(error.streamErrorCode, FAULT_CODE);
}

/** A mebibyte comes back on the same stream. */
export const bidirectional = (url, hash) =>
  using(url, hash, "/echo", (transport) => echo(transport, bytes(MEBIBYTE)));

/** A mebibyte comes back on a stream of the server's, each in one direction. */
export const unidirectional = (url, hash) =>
  using(url, hash, "/echo", async (transport) => {
    const data = bytes(MEBIBYTE, 2);
    const receive = async () => same(await readAll(await next(transport.incomingUnidirectionalStreams)), data);
    await Promise.all([writeAll(await transport.createUnidirectionalStream(), data), receive()]);
  });

/** Datagrams of any size come back, one after the other. */
export const datagrams = (url, hash) =>
  using(url, hash, "/echo", async (transport) => {
    const { datagrams } = transport;
    assert.ok(datagrams.maxDatagramSize >= 1_000);
    const writer = (datagrams.writable ?? datagrams.createWritable()).getWriter();
    for (let number = 0; number < 20; number++) {
      const data = bytes(1 + 50 * number, number + 1);
      await writer.write(data);
      same(await next(datagrams.readable), data);
    }
  });

/** The server opens a stream of each kind, and the first is answered. */
export const serverOpened = (url, hash) =>
  using(url, hash, "/open", async (transport) => {
    const stream = await next(transport.incomingBidirectionalStreams);
    assert.equal(decoder.decode(await readAll(stream.readable)), HELLO);
    await writeAll(stream.writable, encoder.encode("heard you"));
    assert.equal(await told(transport), "heard you");
  });

/** A hundred streams at once, each with bytes of its own. */
export const manyStreams = (url, hash) =>
  using(url, hash, "/echo", async (transport) => {
    const numbers = Array.from({ length: 100 }, (_, number) => number + 1);
    await Promise.all(numbers.map((number) => echo(transport, bytes(20_000, number))));
  });

/** The server's reset is an error of the reader, with its code. */
export const resetReceived = (url, hash) =>
  using(url, hash, "/reset", async (transport) => {
    const stream = await transport.createBidirectionalStream();
    await stream.writable.getWriter().write(encoder.encode("do"));
    await faulted(stream.readable.getReader().read());
  });

/** The server's stop is an error of the writer, with its code. */
export const stopReceived = (url, hash) =>
  using(url, hash, "/stop", async (transport) => {
    const writer = (await transport.createUnidirectionalStream()).getWriter();
    writer.write(encoder.encode("do")).catch(() => {});
    await faulted(writer.closed);
  });

/** An error with a code for the peer: the specification's constructor takes a message first, Chromium's one object. */
function fault(streamErrorCode) {
  try {
    return new WebTransportError("enough", { streamErrorCode });
  } catch {
    return new WebTransportError({ message: "enough", streamErrorCode });
  }
}

/** Our reset reaches the server's reader, with its code. */
export const resetSent = (url, hash) =>
  using(url, hash, "/tell", async (transport) => {
    for (const code of CODES) {
      const writer = (await transport.createUnidirectionalStream()).getWriter();
      await writer.write(encoder.encode("something"));
      assert.equal(await told(transport), "begun");
      writer.abort(fault(code)).catch(() => {});
      assert.equal(await told(transport), `reset ${code}`);
    }
  });

/** Our stop reaches the server's writer, with its code. */
export const stopSent = (url, hash) =>
  using(url, hash, "/tell", async (transport) => {
    for (const code of CODES) {
      const stream = await transport.createBidirectionalStream();
      await stream.writable.getWriter().write(encoder.encode("go"));
      const reader = stream.readable.getReader();
      await reader.read();
      reader.cancel(fault(code)).catch(() => {});
      assert.equal(await told(transport), `stopped ${code}`);
    }
  });

/** The server's close arrives with its code and reason. */
export async function closeReceived(url, hash) {
  const transport = connect(`${url}/close`, hash);
  await transport.ready;
  const stream = await transport.createBidirectionalStream();
  await stream.writable.getWriter().write(encoder.encode("do"));
  const { closeCode, reason } = await transport.closed;
  assert.equal(closeCode, CLOSE.closeCode);
  assert.equal(reason, CLOSE.reason);
}

/** Our close arrives at the server with its code and reason. */
export async function closeSent(url, hash) {
  const transport = connect(`${url}/echo`, hash);
  await transport.ready;
  await echo(transport, encoder.encode("there"));
  transport.close({ closeCode: 4_294_967_294, reason: "genug für heute" });
  await transport.closed;
  let last;
  do last = JSON.parse(await using(url, hash, "/last", told));
  while (last?.[0] !== 4_294_967_294); // it may not have come yet, nor the end of an earlier case's session
  assert.equal(last[1], "genug für heute");
}

/** The server chooses a subprotocol, and both sides say which. */
export const subprotocol = (url, hash) =>
  using(
    url,
    hash,
    "/protocol",
    async (transport) => {
      assert.equal(transport.protocol, "second");
      assert.equal(JSON.parse(await told(transport)), "second");
    },
    { protocols: ["first", "second", "third"] },
  );

async function refused(url, hash) {
  const transport = connect(url, hash);
  transport.closed.catch(() => {});
  let error;
  try {
    await transport.ready;
  } catch (exc) {
    error = exc;
  }
  assert.ok(error instanceof WebTransportError, "the session was accepted");
  assert.equal(error.source, "session");
}

/** A path that is not there is refused. */
export const unknownPath = (url, hash) => refused(`${url}/nowhere`, hash);

/** To be called by a page that may not come in: it is refused, on a path that others reach. */
export const wrongOrigin = (url, hash) => refused(`${url}/echo`, hash);

async function ask(transport) {
  const writer = (transport.datagrams.writable ?? transport.datagrams.createWritable()).getWriter();
  await writer.write(encoder.encode("?"));
  writer.releaseLock();
  return JSON.parse(decoder.decode(await next(transport.datagrams.readable)));
}

const pause = () => new Promise((resolve) => setTimeout(resolve, 50));

/** How many bytes the server's writer has got rid of when it stands still on a stream that this page does not read. */
export const unread = (url, hash) =>
  using(url, hash, "/pour", async (transport) => {
    const stream = await transport.createBidirectionalStream();
    await stream.writable.getWriter().write(encoder.encode("go"));
    const before = (await ask(transport)).written;
    let written = -1;
    for (let equal = 0; equal < 20; await pause()) {
      const { written: now } = await ask(transport);
      equal = now === written && now > before ? equal + 1 : 0;
      written = now;
      assert.ok(written - before < MAX_UNREAD_BYTES, "nothing stops the server");
    }
    assert.equal((await ask(transport)).pouring, 1);
    await stream.readable.cancel();
    return written - before;
  });

/** How many bytes this page has got rid of on a stream that the server does not read; then there is room no more. */
export const unreadByServer = (url, hash) =>
  using(url, hash, "/ignore", async (transport) => {
    const writer = (await transport.createUnidirectionalStream()).getWriter();
    const piece = bytes(65_536);
    let written = 0;
    for (;;) {
      const isRoom = await Promise.race([writer.write(piece).then(() => true, () => false), pause().then(pause)]);
      if (isRoom !== true) break;
      written += piece.length;
      assert.ok(written < MAX_UNREAD_BYTES, "nothing stops us");
    }
    return written;
  });

/** Begin to read a stream without end, and stay. */
export async function stay(url, hash) {
  globalThis.transport = connect(`${url}/pour`, hash);
  await transport.ready;
  const stream = await transport.createBidirectionalStream();
  await stream.writable.getWriter().write(encoder.encode("go"));
  globalThis.reader = stream.readable.getReader();
  await reader.read();
  return (await ask(transport)).pouring;
}

/** Wait until the server writes so many streams without end. */
export const untilPouring = (url, hash, count) =>
  using(url, hash, "/pour", async (transport) => {
    while ((await ask(transport)).pouring !== count) await pause();
  });
