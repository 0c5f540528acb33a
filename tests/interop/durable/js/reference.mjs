// The published server in a process of its own: prints its URL, and stops when its input ends.
// Arguments: the long-poll timeout in ms, and the folder of its files; without one it keeps all in memory.
import { DurableStreamTestServer } from "@durable-streams/server";

// Our first line is the URL; what the server says of itself goes elsewhere.
console.log = console.info = console.error;

const [longPollTimeout, dataDir] = process.argv.slice(2);
const server = new DurableStreamTestServer({
  port: 0,
  longPollTimeout: Number(longPollTimeout),
  ...(dataDir ? { dataDir } : {}),
});
process.stdout.write(`${await server.start()}\n`);
process.stdin.resume();
process.stdin.on("end", async () => {
  await server.stop();
  process.exit(0);
});
