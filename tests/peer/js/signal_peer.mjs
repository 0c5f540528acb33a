// node signal_peer.mjs <ws url>: a peer of ts-signal-rpc's messages, written from their description alone. It converses with
// whoever is on the other side, directly or behind a relay, and prints what it found as one line of JSON.
const socket = new WebSocket(process.argv[2]);
const uuid = () => crypto.randomUUID();
const calls = new Map();
const streams = new Map();
const stopped = new Set();
const errors = [];
let clientId;
let timestamp = 0;
let wakeWelcome, wakePong;
const welcomed = new Promise((resolve) => (wakeWelcome = resolve));

const say = (message) => socket.send(JSON.stringify(message));

function queue() {
  const waiting = [];
  let wake = () => {};
  return {
    push(entry) {
      waiting.push(entry);
      wake();
    },
    async next() {
      while (!waiting.length) await new Promise((resolve) => (wake = resolve));
      return waiting.shift();
    },
  };
}

function streamOf(id) {
  if (!streams.has(id)) streams.set(id, queue());
  return streams.get(id);
}

function request(data) {
  const requestId = uuid();
  say({ category: "request", from: clientId, fromName: "bare", requestId, data });
  return new Promise((resolve) => calls.set(requestId, resolve));
}

async function receive(id, most = Infinity) {
  const found = [];
  while (found.length < most) {
    const message = await streamOf(id).next();
    if (message.type === "StreamEnd") return { found, end: "StreamEnd" };
    if (message.type === "StreamError") return { found, end: message.error };
    found.push(message.payload);
  }
  return { found };
}

async function sendEndless(streamId) {
  let sent = 0;
  while (!stopped.has(streamId)) {
    say({ type: "StreamData", streamId, payload: sent++ });
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function answer({ requestId, from, data }) {
  const reply = (content) => say({ category: "response", requestId, to: from, from: clientId, data: content });
  if (data.method === "greet") reply(`hello ${data.name}`);
  if (data.method === "endless") {
    sendEndless(data.streamId);
    reply({ streamId: data.streamId });
  }
}

socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if (message.type?.startsWith("Stream")) {
    streamOf(message.streamId).push(message);
    return;
  }
  switch (message.category) {
    case "welcome":
      clientId = message.clientId;
      wakeWelcome(message);
      break;
    case "request":
      answer(message);
      break;
    case "response":
      calls.get(message.requestId)?.(message);
      break;
    case "ping":
      say({ category: "pong", timestamp: message.timestamp });
      break;
    case "pong":
      wakePong?.(message);
      break;
    case "error":
      if (message.details?.streamId) stopped.add(message.details.streamId);
      errors.push([message.error, message.details?.streamId]);
  }
};
socket.onerror = () => process.exit(3);

const { sessionId, restoredSession } = await welcomed;
const result = { welcome: [typeof clientId, typeof sessionId, restoredSession] };

const ponged = new Promise((resolve) => (wakePong = resolve));
timestamp = Date.now();
say({ category: "ping", timestamp });
result.pong = (await ponged).timestamp === timestamp;

result.add = (await request({ method: "add", params: { a: 1, b: 2 } })).data;
result.failure = (await request({ method: "fail" })).error;
result.unknown = (await request({ method: "nothing" })).error.code;
result.who = (await request({ method: "who" })).data.map((one) => (one === clientId ? "me" : one));

const counted = await request({ method: "count", params: [1000] });
const { found, end } = await receive(counted.data.streamId);
result.counted = [found.length, found.every((one, index) => one === index), end];

const failing = await request({ method: "fail_later" });
result.failed = await receive(failing.data.streamId);

const endless = (await request({ method: "count", params: [1e9] })).data.streamId;
result.endless = (await receive(endless, 10)).found.length;
say({ category: "error", error: "enough", details: { code: "CANCELLED", streamId: endless } });
let last;
do last = await streamOf(endless).next();
while (last.type === "StreamData");
result.stopped = last.type;

const upload = uuid();
const summed = request({ method: "sum", params: [upload] });
for (let number = 0; number < 1000; number++) say({ type: "StreamData", streamId: upload, payload: number });
say({ type: "StreamEnd", streamId: upload });
result.sum = (await summed).data;

const broken = uuid();
const reported = request({ method: "sum", params: [broken] });
say({ type: "StreamData", streamId: broken, payload: 1 });
say({ type: "StreamError", streamId: broken, error: "Something went wrong" });
result.broken = (await reported).error;

result.calledBack = (await request({ method: "call_back" })).data;
result.early = (await request({ method: "take_five", params: [uuid()] })).data;
result.isStopped = stopped.size === 1;

say({ category: "nonsense" });
socket.send("{");
result.still = (await request({ method: "add", params: [3, 4] })).data;
result.errors = errors.map(([text, streamId]) => (streamId ? "a stream" : text));
socket.close();
console.log(JSON.stringify(result));
