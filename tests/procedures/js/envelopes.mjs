// node envelopes.mjs <ws url> <tcp port>: says what a capture of Raffel's clients holds on a WebSocket and on TCP, and prints
// what it hears, a JSON array for each. It knows nothing of the server's code.
import net from "node:net";

const [url, port] = process.argv.slice(2);

async function converse(say, next) {
  const heard = [];
  async function until(id) {
    do heard.push(await next());
    while (heard.at(-1).id !== id);
  }
  say({ id: "r1", procedure: "ping", type: "request", payload: { a: 1 } });
  await until("r1:response");
  say({ type: "stream:start", id: "stream_1", procedure: "counter", payload: { count: 2 } });
  await until("stream_1:stream:end");
  say({ type: "stream:start", id: "s3", procedure: "failcoded" });
  await until("s3:stream:error");
  say({ type: "stream:start", id: "k", procedure: "stuck" });
  await until("k:stream:data:0");
  say({ type: "cancel", id: "k" });
  await until("k:stream:error");
  say({ type: "stream:start", id: "c1", procedure: "sum" });
  say({ type: "stream:data", id: "c1", payload: { value: 1 } });
  say({ type: "stream:data", id: "c1", procedure: "sum", payload: { value: 2 } });
  say({ type: "stream:end", id: "c1", procedure: "sum" });
  await until("c1:response");
  say({ type: "stream:start", id: "b1", procedure: "echo" });
  say({ type: "stream:data", id: "b1", procedure: "echo", payload: { n: 5 } });
  say({ type: "stream:end", id: "b1", procedure: "echo" });
  await until("b1:stream:end");
  say({ id: "x", type: "request" });
  await until("x:error");
  say({ id: "1", type: "subscribe", channel: "room" });
  await until("1");
  say({ id: "3", type: "unsubscribe", channel: "room" });
  await until("3");
  return heard;
}

function queue() {
  const messages = [];
  let wake = () => {};
  return {
    push(message) {
      messages.push(JSON.parse(message));
      wake();
    },
    async next() {
      while (!messages.length) await new Promise((resolve) => (wake = resolve));
      return messages.shift();
    },
  };
}

async function overWebSocket() {
  const { push, next } = queue();
  const socket = new WebSocket(url);
  socket.onmessage = (event) => push(event.data);
  await new Promise((resolve) => (socket.onopen = resolve));
  const heard = await converse((envelope) => socket.send(JSON.stringify(envelope)), next);
  const closed = new Promise((resolve) => (socket.onclose = resolve));
  socket.close();
  await closed;
  return heard;
}

async function overTcp() {
  const { push, next } = queue();
  const socket = net.connect(Number(port), "127.0.0.1");
  let received = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 4 && received.length >= 4 + received.readUInt32BE(0)) {
      const end = 4 + received.readUInt32BE(0);
      push(received.subarray(4, end).toString());
      received = received.subarray(end);
    }
  });
  const heard = await converse((envelope) => {
    const message = Buffer.from(JSON.stringify(envelope));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(message.length);
    socket.write(Buffer.concat([length, message]));
  }, next);
  socket.end();
  return heard;
}

console.log(JSON.stringify(await overWebSocket()));
console.log(JSON.stringify(await overTcp()));
