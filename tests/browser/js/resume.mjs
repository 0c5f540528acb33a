// What a page sees of a network that goes away: time, and nothing else.
import assert from "node:assert/strict";
import { ConnectionLost, LocalProtocolError, connect } from "../../../trio_streams/browser/client.js";

const AT_ONCE = { initialDelay: 20, maxDelay: 100 };
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const post = (url) => fetch(url, { method: "POST" });

async function until(isSo, what) {
  for (const end = performance.now() + 60_000; !isSo(); await sleep(5)) assert.ok(performance.now() < end, `${what} within a minute`);
}

function watch(client) {
  const changes = [];
  client.onstatechange = ({ state, resumes }) => {
    changes.push({ state, resumes, at: performance.now() });
    progress.state = state;
  };
  return changes;
}

/** What a test in a page looks at while the scenario goes on. */
export const progress = { items: 0, state: "", isOver: false, outcome: null, error: null };

/**
 * A stream that is read, an upload, a call and two-way traffic, while the network is away: `lose` takes it away and resolves at
 * once. Every item comes once and in order, and everything ends well.
 */
async function goOn(url, lose) {
  const client = await connect(url, { resume: true, reconnect: { initialDelay: 200, maxDelay: 500 } });
  assert.deepEqual([client.state, client.statistics().isResumable], ["attached", true]);
  const changes = watch(client);
  const isBack = () => client.statistics().resumes > 0 && client.state === "attached";
  let uploaded = 0;
  async function* numbers() {
    while (!isBack() || uploaded < 20_000) {
      yield uploaded++;
      if (uploaded % 100 === 0) await sleep(2);
    }
  }
  const sum = client.upload("sum", numbers());
  const call = client.call("meanwhile");
  const echo = client.bidi("echo");
  await echo.send(-1);
  assert.deepEqual(await echo.next(), { value: -1, done: false });

  let next = 0;
  let atLoss = -1;
  let afterwards = 0;
  for await (const item of client.stream("endless.slow")) {
    assert.equal(item, next++);
    progress.items = next;
    if (next === 1_000) await lose();
    if (client.state === "detached" && atLoss < 0) {
      atLoss = next;
      for (let n = 0; n < 50; n += 1) echo.send(n); // queued now, written on another carrier
    }
    if (isBack() && (afterwards += 1) === 5_000) break;
  }
  assert.equal(await call, "answered meanwhile");
  assert.equal(await sum, (uploaded * (uploaded - 1)) / 2);
  if (atLoss >= 0) for (let n = 0; n < 50; n += 1) assert.deepEqual(await echo.next(), { value: n, done: false });
  await echo.return();
  assert.equal(await client.call("double", 21), 42);
  const { streams, unreadBytes } = client.statistics();
  assert.deepEqual([streams, unreadBytes], [0, 0]);
  client.close();
  await sleep(0);
  assert.deepEqual(changes.map(({ state }) => state), ["detached", "attached", "closed"]);
  return { items: next, uploaded, away: Math.round(changes[1].at - changes[0].at), resumes: changes[1].resumes };
}

/** In Node the scenario has the network taken away, for some milliseconds. */
export const goesOn = (url, pages, milliseconds) => goOn(url, () => post(`${pages}/cut/${milliseconds}`));

/** In a page it says that it is under way, and the test takes the network away. */
export async function goesOnInPage(url) {
  try {
    progress.outcome = await goOn(url, async () => {});
  } catch (error) {
    progress.error = String(error);
  }
  progress.isOver = true;
}

/** Whether a WebSocket to some place can be opened. */
export function canOpen(url) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, ["trio-streams.v1"]);
    socket.onopen = () => {
      socket.close();
      resolve(true);
    };
    socket.onclose = () => resolve(false);
  });
}

/** Carriers that are cut after so many bytes, one after the other; `count` items each way and back. */
export async function manyCuts(url, count) {
  const client = await connect(url, { resume: { maxSessionAge: 30_000 }, reconnect: AT_ONCE, idleTimeout: 2_000 });
  const echo = client.bidi("echo");
  const sending = (async () => {
    for (let n = 0; n < count; n += 1) await echo.send([n, "x".repeat(n % 100)]);
    await echo.end();
  })();
  let next = 0;
  for await (const [item, text] of echo) {
    assert.equal(item, next++);
    assert.equal(text.length, item % 100);
  }
  await sending;
  assert.equal(next, count);
  const { resumes } = client.statistics();
  client.close();
  return resumes;
}

/** A network that goes silent: nobody is told, so a ping has to find out. */
export async function silence(url, pages) {
  const client = await connect(url, { resume: true, reconnect: AT_ONCE, idleTimeout: 400 });
  const causes = [];
  client.onstatechange = ({ state, cause }) => causes.push([state, cause?.field]);
  let next = 0;
  for await (const item of client.stream("endless.slow")) {
    assert.equal(item, next++);
    if (next === 500) await post(`${pages}/hush`);
    if (client.statistics().resumes === 1 && next > 2_000) break;
  }
  await post(`${pages}/mend`); // the socket that is silent would else be waited for
  assert.deepEqual(causes, [["detached", "idleTimeout"], ["attached", undefined]]);
  client.close();
}

/** Where there is no way back, everything ends once, with one error that says why. */
export async function tooOld(url, pages, options, cut) {
  const client = await connect(url, { reconnect: AT_ONCE, ...options });
  const stream = client.stream("endless.slow");
  await stream.next();
  const call = client.call("hang");
  const sent = client.bidi("echo");
  await client.call("hanging");
  const ends = Promise.all([call, readAll(stream), readAll(sent)].map((one) => one.catch((error) => error)));
  await post(`${pages}/cut/${cut}`);
  const errors = await ends;
  const lost = await client.closed;
  for (const error of errors) assert.equal(error, lost);
  assert.ok(lost instanceof ConnectionLost);
  assert.equal(client.state, "closed");
  await assert.rejects(client.call("double", 1), (error) => error === lost);
  await post(`${pages}/mend`);
  return lost.message;
}

async function readAll(stream) {
  for await (const item of stream) void item;
}

/** A client that is closed while it is detached stops looking, and one that is aborted. */
export async function closedMeanwhile(url, pages) {
  for (const how of ["close", "abort"]) {
    const controller = new AbortController();
    const client = await connect(url, { resume: true, reconnect: AT_ONCE, signal: controller.signal });
    const call = client.call("hang");
    await client.call("hanging");
    await post(`${pages}/cut/0`);
    await until(() => client.state === "detached", "detached");
    const waiting = client.call("double", 1); // it waits for another carrier
    if (how === "close") client.close();
    else controller.abort();
    await Promise.all([call, waiting].map((promise) => assert.rejects(promise, ConnectionLost)));
    assert.equal((await client.closed) === null, how === "close");
    await post(`${pages}/mend`);
  }
}

/** What is asked for while the network is away waits; what is given up meanwhile is given up on the other side, too. */
export async function usedMeanwhile(url, pages) {
  const client = await connect(url, { resume: true, reconnect: AT_ONCE });
  const controller = new AbortController();
  const hanging = client.call("hang", undefined, { signal: controller.signal });
  await client.call("hanging");
  await post(`${pages}/cut/0`);
  await until(() => client.state === "detached", "detached");
  const answers = Array.from({ length: 5 }, (_, n) => client.call("double", n));
  controller.abort();
  await assert.rejects(hanging, { name: "AbortError" });
  client.ping(); // to nobody
  await post(`${pages}/mend`);
  assert.deepEqual(await Promise.all(answers), [0, 2, 4, 6, 8]);
  await client.call("hang.closed");
  client.close();
}

/** A sender that has nobody to send to waits, at the size of its buffer. */
export async function backpressure(url, pages) {
  const client = await connect(url, { resume: { maxRetainedBytes: 131_072 }, reconnect: AT_ONCE, limits: { maxSendBufferBytes: 65_536 } });
  let made = 0;
  let begin;
  const isAway = new Promise((resolve) => (begin = resolve));
  const text = "x".repeat(10_000);
  async function* items() {
    for (; made < 200; made += 1) {
      if (made === 1) await isAway;
      yield text;
    }
  }
  const total = client.upload("lengths", items());
  await until(() => client.statistics().streamsOpened === 1, "opened");
  await post(`${pages}/cut/0`);
  await until(() => client.state === "detached", "detached");
  begin();
  for (let before = -1; before !== made; await sleep(100)) before = made;
  assert.ok(made > 1 && made < 20, `${made} items were made for nobody`);
  await post(`${pages}/mend`);
  assert.equal(await total, 2_000_000);
  assert.equal(client.statistics().resumes, 1);
  client.close();
}

/** A server that knows no sessions: a plain connection, which ends with its WebSocket. */
export async function plain(url, pages) {
  const client = await connect(url, { resume: true });
  assert.equal(client.statistics().isResumable, false);
  const ended = assert.rejects(client.call("hang"), ConnectionLost);
  await client.call("hanging");
  await post(`${pages}/cut/0`);
  await ended;
  assert.ok((await client.closed) instanceof ConnectionLost);
}

/** Options are checked before there is a socket. */
export async function badOptions(url) {
  const bad = [
    [{ resume: { maxRetainedBytes: 1_000 } }, "maxRetainedBytes"],
    [{ resume: { maxSessionAge: -1 } }, "maxSessionAge"],
    [{ resume: { age: 1 } }, "age"],
    [{ resume: true, reconnect: { factor: 0.5 } }, "factor"],
    [{ resume: true, reconnect: { maxAttempts: "3" } }, "maxAttempts"],
    [{ resume: false, reconnect: {} }, "reconnect"],
  ];
  for (const [options, field] of bad) {
    await assert.rejects(connect(url, options), (error) => error instanceof LocalProtocolError && error.field === field);
  }
}
